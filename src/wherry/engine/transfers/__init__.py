"""Images from registries and to them.

| module | what it does |
|---|---|
| `needs.py` | what is needed of a registry client |
| `pulls.py` | one image, or all tags of a repository, into the store |
| `downloads.py` | blobs on their way in: limited, shared, resumed |
| `unpacking.py` | layers from arriving blobs, shared |
| `unfinished.py` | what pulls that did not end have left: kept for the next, for a while |
| `pushes.py` | one image, or all tags of a repository, out of the store |
| `imports.py` | a root file system's archive from a URL |
| `packing.py` | images that have no manifest get one, and compressed layers |
| `shared.py` | work that several wait for and that is done once |
| `lines.py` | progress as Docker's clients draw it |
"""
