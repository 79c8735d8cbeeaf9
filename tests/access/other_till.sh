#!/bin/sh
# A till that is not ours: sh, openssl, curl, jq and mosquitto's clients, written from docs/till.md alone.
#
#   other_till.sh enrol FOLDER     reads an invitation (code or QR text) from standard input; HOST and PORT where it has none
#   other_till.sh scan FOLDER      prints the text of the next scan at this lane
#   other_till.sh say FOLDER TYPE SEQUENCE DATA     sends a fact and prints the gateway's reply
#   other_till.sh renew FOLDER     renews the certificate at the enrolment port, with the old one
set -eu
umask 077

alphabet=0123456789ABCDEFGHJKMNPQRSTVWXYZ
fail() { printf '%s\n' "$*" >&2; exit 1; }
sha256() { openssl dgst -sha256 -r | cut -d' ' -f1; }
sha256_of_file() { sha256 <"$1"; }
hmac() { openssl dgst -sha256 -mac HMAC -macopt "hexkey:$1" -r | cut -d' ' -f1; }
as_json() { jq -R -s . <"$1"; }

# The code as 20 characters of the alphabet, its typing check done.
read_code() {
    code=$(printf %s "$1" | tr -d ' \t-' | tr abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ | tr OIL 011)
    [ ${#code} = 20 ] || fail "a code has 20 letters and digits"
    remainder=0 rest=$code n=0
    while [ $n -lt 18 ]; do
        letter=${rest%"${rest#?}"} rest=${rest#?} n=$((n + 1))
        before=${alphabet%%"$letter"*}
        [ "$before" != "$alphabet" ] || fail "$letter never stands in a code"
        remainder=$(((remainder * 32 + ${#before}) % 1021))
    done
    high=${alphabet%%"${rest%?}"*} low=${alphabet%%"${rest#?}"*}
    [ $((${#high} * 32 + ${#low})) = $remainder ] || fail "there is a typing error in the code"
}

# A field of the QR code's text; the first of several.
field() { printf %s "$invitation" | sed 's/^[^?]*?//' | tr '&' '\n' | sed -n "s/^$1=//p" | head -n 1; }

# What TLS shows at host:port: server.pem, and its fingerprint in $server. The question is asked over that key only.
look() {
    openssl s_client -connect "$host:$port" </dev/null 2>/dev/null | openssl x509 >"$folder/server.pem" || fail "nobody at $host:$port"
    server=$(openssl x509 -in "$folder/server.pem" -outform DER | sha256)
    pin=sha256//$(openssl x509 -in "$folder/server.pem" -noout -pubkey | openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary | openssl base64)
}

new_key() {
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$folder/new.key" -out "$folder/csr.pem" -subj /CN=till 2>/dev/null
    nonce=$(openssl rand -hex 32)
}

enrol() {
    read -r invitation
    store='' lane='' host=${HOST:-} port=${PORT:-8884}
    case $invitation in
        tillgate:enrol\?*)
            store=$(field store) lane=$(field lane) host=${host:-$(field host)} port=$(field port)
            read_code "$(field code)" ;;
        *) read_code "$invitation" ;;
    esac
    keys=$(openssl kdf -keylen 80 -kdfopt digest:SHA256 -kdfopt "key:$code" -kdfopt 'info:tillgate enrolment v1' HKDF | tr -d ':\n' | tr ABCDEF abcdef)
    name=$(printf %s "$keys" | cut -c1-32) till=$(printf %s "$keys" | cut -c33-96) gateway=$(printf %s "$keys" | cut -c97-160)
    look
    new_key
    proof=$(printf '%s\n' 'tillgate enrolment v1 till' "$name" "$store" "$lane" "$server" "$(sha256_of_file "$folder/csr.pem")" "$nonce" | hmac "$till")
    jq -n --arg i "$name" --arg s "$store" --arg l "$lane" --argjson c "$(as_json "$folder/csr.pem")" --arg n "$nonce" --arg p "$proof" \
        '{v: 1, invitation: $i, store: $s, lane: $l, csr: $c, nonce: $n, proof: $p}' >"$folder/question"
    curl -sS -k --pinnedpubkey "$pin" -m 15 --data-binary @"$folder/question" "https://$host:$port/v1/enrol" >"$folder/answer"
    told=$(jq -r '.code // empty' "$folder/answer")
    [ -z "$told" ] || fail "refused: $told"
    jq -j .certificate "$folder/answer" >"$folder/certificate"
    jq -j .trusted "$folder/answer" >"$folder/believed"
    proof=$(printf '%s\n' 'tillgate enrolment v1 gateway' "$name" "$(jq -r .store "$folder/answer")" "$(jq -r .lane "$folder/answer")" "$server" \
        "$(sha256_of_file "$folder/csr.pem")" "$nonce" "$(sha256_of_file "$folder/certificate")" "$(sha256_of_file "$folder/believed")" \
        "$(jq -r .nonce "$folder/answer")" | hmac "$gateway")
    [ "$proof" = "$(jq -r .proof "$folder/answer")" ] || fail "somebody stands between this till and the gateway"
    keep
    printf '%s\n' "$host" >"$folder/host"
    printf '%s\n' "$port" >"$folder/enrol_port"
    printf 'lane %s of store %s\n' "$(cat "$folder/lane")" "$(cat "$folder/store")"
}

# Only now anything of the answer is kept.
keep() {
    for what in store lane bus_port server_name; do jq -r ".$what" "$folder/answer" >"$folder/$what"; done
    mv "$folder/certificate" "$folder/till.pem"
    mv "$folder/believed" "$folder/trusted.pem"
    mv "$folder/new.key" "$folder/till.key"
}

renew() {
    host=$(cat "$folder/host") port=$(cat "$folder/enrol_port") name=$(cat "$folder/server_name")
    look
    new_key
    printf '%s\n' 'tillgate renewal v1 till' "$(sha256_of_file "$folder/till.pem")" "$server" "$(sha256_of_file "$folder/csr.pem")" "$nonce" >"$folder/signed"
    signature=$(openssl dgst -sha256 -sign "$folder/till.key" "$folder/signed" | openssl base64 -A)
    jq -n --argjson o "$(as_json "$folder/till.pem")" --argjson c "$(as_json "$folder/csr.pem")" --arg n "$nonce" --arg s "$signature" \
        '{v: 1, certificate: $o, csr: $c, nonce: $n, signature: $s}' >"$folder/question"
    curl -sS --cacert "$folder/trusted.pem" --connect-to "$name:$port:$host:$port" --pinnedpubkey "$pin" -m 15 \
        --data-binary @"$folder/question" "https://$name:$port/v1/renew" >"$folder/answer"
    told=$(jq -r '.code // empty' "$folder/answer")
    [ -z "$told" ] || fail "refused: $told"
    jq -j .certificate "$folder/answer" >"$folder/certificate"
    jq -j .trusted "$folder/answer" >"$folder/believed"
    keep
}

mqtt() { # mqtt PROGRAM ARGUMENTS: as this lane
    program=$1
    shift
    "$program" -h "$(cat "$folder/host")" -p "$(cat "$folder/bus_port")" --cafile "$folder/trusted.pem" \
        --cert "$folder/till.pem" --key "$folder/till.key" -q 1 "$@"
}

scan() { mqtt mosquitto_sub -t "tg/v1/lanes/$(cat "$folder/lane")/scans" -C 1 -W 60 | jq -r .text; }

say() {
    lane=$(cat "$folder/lane")
    id=$(openssl rand -hex 16)
    fact=$(jq -n -c --arg id "$id" --arg t "$1" --arg q "$(printf %010d "$2")" --argjson d "$3" \
        --arg src "/stores/$(cat "$folder/store")/lanes/$lane" --arg now "$(date -u +%Y-%m-%dT%H:%M:%SZ)" \
        '{specversion: "1.0", id: $id, source: $src, type: $t, time: $now, sequence: $q, data: $d}')
    # One connection of a lane at a time: ask and hear the answer on the same one.
    mqtt mosquitto_rr -V 5 -t "tg/v1/lanes/$lane/facts" -e "tg/v1/lanes/$lane/replies" -m "$fact" -W 20
}

[ $# -ge 2 ] || fail "usage: $0 enrol|scan|say|renew FOLDER"
command=$1 folder=$2
shift 2
mkdir -p "$folder"
"$command" "$@"
