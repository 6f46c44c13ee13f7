# What CI runs.
verify *STEPS:
    tests/run {{STEPS}}

# The server, with what it does told on stderr.
serve *ARGUMENTS:
    cargo run -- serve {{ARGUMENTS}}

# A command, by the server if there is one.
run +COMMAND:
    cargo run --quiet -- run {{COMMAND}}
