"""A whole daemon and a registry: what only both together show."""

from __future__ import annotations

import json

from tests.support.daemon import Wherryd, temporary_folder
from tests.support.http import Client
from tests.support.images import Entry, config_json, digest, tar
from tests.support.registries import Registry, put_blob, put_manifest
from wherry.model.manifests import MEDIA_CONFIG, MEDIA_LAYER, MEDIA_MANIFEST


def test_bare_names_are_pulled_through_a_mirror(open_registry: Registry) -> None:
    """`pull mysql` and `pull user/name:tag` where the daemon was given `--registry-mirror`."""
    layer = tar([Entry("of-the-mirror", b"x")])
    config = config_json([layer])
    described = [
        {"mediaType": kind, "digest": digest(data), "size": len(data)}
        for kind, data in ((MEDIA_CONFIG, config), (MEDIA_LAYER, layer))
    ]
    manifest = json.dumps(
        {"schemaVersion": 2, "mediaType": MEDIA_MANIFEST, "config": described[0], "layers": described[1:]}
    ).encode()
    for path, tag in (("library/mysql", "latest"), ("user/name", "tag")):
        put_blob(open_registry.host, path, config, digest(config))
        put_blob(open_registry.host, path, layer, digest(layer))
        put_manifest(open_registry.host, path, tag, MEDIA_MANIFEST, manifest)
    daemon = Wherryd(temporary_folder())
    try:
        daemon.start("--registry-mirror", f"http://{open_registry.host}")
        http = Client(daemon.socket)
        for query, shown in (
            ({"fromImage": "mysql", "tag": "latest"}, "mysql:latest"),
            ({"fromImage": "user/name:tag"}, "user/name:tag"),
        ):
            lines = http.post("/images/create", **query).json_lines()
            assert lines[-1] == {"status": f"Status: Downloaded newer image for {shown}"}
            assert {"status": f"Digest: {digest(manifest)}"} in lines
        image = http.get("/images/mysql/json").json()
        assert (image["Id"], image["RepoTags"]) == (digest(config), ["mysql:latest", "user/name:tag"])
        assert sorted(image["RepoDigests"]) == [f"{name}@{digest(manifest)}" for name in ("mysql", "user/name")]
        assert http.get("/info").json()["RegistryConfig"]["Mirrors"] == [f"http://{open_registry.host}/"]
    finally:
        daemon.dispose()
