"""Builds: graphs of operations on file trees, executed.

| module | what it does |
|---|---|
| `service.py` | `Builds`: one build from its target to an image or another output; what the rest of the engine knows |
| `solving.py` | which vertices run, in which order, and which results serve again |
| `operations.py` `steps.py` | how each kind of operation makes its tree; processes are steps |
| `shop.py` | what all of them work with |
| `processes.py` | running a process in a tree: a container without a monitor |
| `sources.py` | trees from images, clients, URLs and Git |
| `cache.py` | the results that are kept, their keys, and the end of those that nobody uses |
| `mounts.py` | the directories that outlive a build (cache mounts) |
| `imports.py` `exports.py` | results of builds elsewhere, and ours for them |
| `layouts.py` | a directory of the client's, used as a registry's repository is |
| `publishing.py` | what was built, to registries |
| `progress.py` | what is told of a build while it runs |
"""
