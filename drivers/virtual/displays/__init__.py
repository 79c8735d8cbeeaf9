"""Virtual customer displays, written from the makers' documents."""
