"""Images: what they are called, how they come, go out and go away. What they are made of is in `wherry.storage`.

Order of things, so that a crash at any instant is harmless: files come before the records that name them, and go after
them. What no record names is swept at the next start, or by the next removal; `keeping.Keeper.holding` shields files
that no record names yet.

| module | what it does |
|---|---|
| `service.py` | `Images`, which puts the others together: what the rest of the engine knows |
| `catalog.py` | looking: references, lists, sizes, history; names |
| `variants.py` | an image by its manifests and platforms |
| `keeping.py` | which files are needed; shielding, collecting, sweeping |
| `admission.py` | taking in an image made elsewhere: the door for load, import, commit, pull and build |
| `loading.py` `importing.py` `committing.py` | ways in |
| `saving.py` | the way out |
| `removing.py` `removal.py` | rmi and prune, and Docker's rules for them |
"""
