"""The language of Dockerfiles: from text to a graph of vertices, without any I/O.

`syntax.parse` splits bytes into instructions with their places, `instructions.parse` gives each its own type,
`stages.arrange` puts them into stages, `planning.plan` makes a `Target` of the graph of `wherry.model.build_graph`.
`ignore` reads and applies .dockerignore, `checks` holds the rules that `--check` reports on.

The reference is the Dockerfile reference of syntax 1.x; where it is silent, what BuildKit answers.
"""
