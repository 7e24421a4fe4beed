"""The `pki` command, by what an operator wants to do. Arguments in, lines or a table out; work is done below."""
