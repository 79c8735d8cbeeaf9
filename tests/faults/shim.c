/*
 * A disk that is full or fails, and a wall clock that jumps, for one real process and its children, without root.
 *
 * Loaded with LD_PRELOAD, it stands before a few calls of the C library. What they meet is read from a control file
 * that shim.py maps too, so a test turns the faults on and off while the process runs. With nothing turned on, every
 * call goes straight through. Only files below one folder are hit; which file a descriptor is comes from /proc.
 *
 * Not reached: what the C library writes for itself (fwrite, so mosquitto's own files), and memory that is mapped.
 * A write that does not fit fails whole; a real disk may write a part of it first.
 *
 * Source: write(2), fsync(2), ftruncate(2), statvfs(3), clock_gettime(2), adjtimex(2), ld.so(8).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

/* The control file, eight little numbers; shim.py has the same list. */
struct control {
    _Atomic int64_t limited;      /* 1: the disk has `free_bytes` left, whatever the real one has */
    _Atomic int64_t free_bytes;   /* shrinks with every file that grows */
    _Atomic int64_t failing;      /* which calls fail: WRITING | SYNCING | READING | CREATING */
    _Atomic int64_t error;        /* with this errno */
    _Atomic int64_t failures_left;/* so many times; negative: for ever */
    _Atomic int64_t wall_ns;      /* added to the wall clock */
    _Atomic int64_t sync;         /* 0: as the kernel says; 1: the clock is synchronised; 2: it is not */
    _Atomic int64_t failed;       /* how many calls were made to fail */
};
enum { WRITING = 1, SYNCING = 2, READING = 4, CREATING = 8 };

static struct control *control;
static char folder[PATH_MAX];

__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("TILLGATE_SHIM_CONTROL"), *below = getenv("TILLGATE_SHIM_FOLDER");
    if (!file || !below || !realpath(below, folder)) return;
    int fd = open(file, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void *mapped = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped != MAP_FAILED) control = mapped;
}

/* The C library's own function of this name. */
#define REAL(type, name, ...)                                                  \
    static type (*real)(__VA_ARGS__);                                          \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static int path_below(const char *path) {
    size_t length = strlen(folder);
    return length && !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
}

static int fd_below(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return path_below(path);
}

/* Whether this call is to fail; errno is set then. */
static int fails(int what, int hit) {
    if (!hit || !(control->failing & what)) return 0;
    int64_t left = control->failures_left;
    do {
        if (left == 0) return 0;
    } while (left > 0 && !atomic_compare_exchange_weak(&control->failures_left, &left, left - 1));
    control->failed++;
    errno = (int)control->error;
    return 1;
}

/* Whether `count` bytes at `offset` (negative: at the end) do not fit any more; else they are taken off what is left. */
static int full(int fd, int64_t offset, size_t count) {
    struct stat now;
    if (!control->limited || !fd_below(fd) || fstat(fd, &now) || !S_ISREG(now.st_mode)) return 0;
    int64_t grows = (offset < 0 ? now.st_size : offset) + (int64_t)count - now.st_size;
    if (grows <= 0) return 0;
    if (atomic_fetch_sub(&control->free_bytes, grows) >= grows) return 0;
    control->free_bytes += grows;
    control->failed++;
    errno = ENOSPC;
    return 1;
}

#define ARMED (control && (control->limited || control->failing))

ssize_t write(int fd, const void *bytes, size_t count) {
    REAL(ssize_t, write, int, const void *, size_t);
    if (ARMED) {
        int64_t offset = fcntl(fd, F_GETFL) & O_APPEND ? -1 : lseek(fd, 0, SEEK_CUR);
        if (fails(WRITING, fd_below(fd)) || full(fd, offset, count)) return -1;
    }
    return real(fd, bytes, count);
}

#define PWRITE(name)                                                           \
    ssize_t name(int fd, const void *bytes, size_t count, off_t offset) {      \
        REAL(ssize_t, name, int, const void *, size_t, off_t);                 \
        if (ARMED && (fails(WRITING, fd_below(fd)) || full(fd, offset, count))) return -1; \
        return real(fd, bytes, count, offset);                                 \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

#define PREAD(name)                                                            \
    ssize_t name(int fd, void *bytes, size_t count, off_t offset) {            \
        REAL(ssize_t, name, int, void *, size_t, off_t);                       \
        if (ARMED && fails(READING, fd_below(fd))) return -1;                  \
        return real(fd, bytes, count, offset);                                 \
    }
PREAD(pread)
PREAD(pread64)

#define SYNC(name)                                                             \
    int name(int fd) {                                                         \
        REAL(int, name, int);                                                  \
        return ARMED && fails(SYNCING, fd_below(fd)) ? -1 : real(fd);          \
    }
SYNC(fsync)
SYNC(fdatasync)

/* A file that is cut gives its bytes back; one that is stretched has a hole and takes none. */
#define FTRUNCATE(name)                                                        \
    int name(int fd, off_t length) {                                           \
        REAL(int, name, int, off_t);                                           \
        struct stat before;                                                    \
        int ours = ARMED && fd_below(fd) && !fstat(fd, &before);               \
        if (ours && fails(WRITING, 1)) return -1;                              \
        int done = real(fd, length);                                           \
        if (!done && ours && control->limited && length < before.st_size)      \
            control->free_bytes += before.st_size - length;                    \
        return done;                                                           \
    }
FTRUNCATE(ftruncate)
FTRUNCATE(ftruncate64)

/* Opening for writing, as on a disk that the kernel has made read-only. The path may be relative: taken as it is. */
#define OPEN(name)                                                             \
    int name(const char *path, int flags, ...) {                               \
        REAL(int, name, const char *, int, ...);                               \
        va_list more;                                                          \
        va_start(more, flags);                                                 \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;\
        va_end(more);                                                          \
        if (ARMED && (flags & (O_WRONLY | O_RDWR)) && fails(CREATING, path_below(path))) return -1; \
        return real(path, flags, mode);                                        \
    }
OPEN(open)
OPEN(open64)

#define STATVFS(name, record, first, hit)                                      \
    int name(first, struct record *found) {                                    \
        REAL(int, name, first, struct record *);                               \
        int done = real(where, found);                                         \
        if (!done && ARMED && control->limited && (hit)) {                     \
            int64_t left = control->free_bytes;                                \
            found->f_bavail = found->f_bfree = (fsblkcnt_t)(left > 0 ? left : 0) / found->f_frsize; \
        }                                                                      \
        return done;                                                           \
    }
STATVFS(statvfs, statvfs, const char *where, path_below(where))
STATVFS(statvfs64, statvfs64, const char *where, path_below(where))
STATVFS(fstatvfs, statvfs, int where, fd_below(where))
STATVFS(fstatvfs64, statvfs64, int where, fd_below(where))

/* --- the clock ----------------------------------------------------------------------------------------- */

static void shift(struct timespec *moment) {
    int64_t ns = (int64_t)moment->tv_sec * 1000000000 + moment->tv_nsec + control->wall_ns;
    moment->tv_sec = ns / 1000000000;
    moment->tv_nsec = ns % 1000000000;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(int, clock_gettime, clockid_t, struct timespec *);
    int done = real(clock, now);
    if (!done && control && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) shift(now);
    return done;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec moment;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &moment)) return -1;
    now->tv_sec = moment.tv_sec;
    now->tv_usec = moment.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec moment;
    clock_gettime(CLOCK_REALTIME, &moment);
    if (now) *now = moment.tv_sec;
    return moment.tv_sec;
}

int adjtimex(struct timex *found) {
    REAL(int, adjtimex, struct timex *);
    int state = real(found);
    if (state < 0 || !control || !control->sync) return state;
    if (control->sync == 1) {
        found->status &= ~STA_UNSYNC;
        return TIME_OK;
    }
    found->status |= STA_UNSYNC;
    return TIME_ERROR;
}
