"""Measuring container engines side by side: the same work against any set of engine sockets, interleaved.

`python -m bench --help` says how; docs/benchmarks.md says what came out.
"""
