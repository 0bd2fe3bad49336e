"""The database schema as a list of migrations; the schema version is their count.

A landed migration is never edited.
"""

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE containers (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        record BLOB NOT NULL             -- msgspec JSON of model.container.Container
    );
    CREATE TABLE events (
        sequence INTEGER PRIMARY KEY,    -- never used again: only the oldest are deleted
        time_ns INTEGER NOT NULL,
        record BLOB NOT NULL             -- msgspec JSON of model.events.Event
    );
    """,
    """
    CREATE TABLE images (
        id TEXT PRIMARY KEY,             -- sha256:... of the configuration document, which is a blob
        record BLOB NOT NULL             -- msgspec JSON of model.image.Image
    );
    CREATE TABLE image_names (
        reference TEXT PRIMARY KEY,      -- canonical: docker.io/library/nginx:latest, or ...@sha256:...
        image_id TEXT NOT NULL REFERENCES images (id)
    );
    CREATE TABLE layer_blobs (
        diff_id TEXT PRIMARY KEY,        -- sha256:... of the uncompressed layer tar
        digest TEXT NOT NULL,            -- of the blob that holds it
        compression TEXT NOT NULL        -- of the blob: "", gzip, zstd, bzip2, xz
    );
    CREATE TABLE volumes (
        name TEXT PRIMARY KEY,
        record BLOB NOT NULL             -- msgspec JSON of engine.volumes.Volume
    );
    """,
    """
    CREATE TABLE networks (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        record BLOB NOT NULL             -- msgspec JSON of model.networks.Network
    );
    CREATE TABLE forwarding (
        boot_id TEXT PRIMARY KEY,        -- the boot in which this engine turned the host's forwarding on
        record BLOB NOT NULL             -- msgspec JSON of model.networks.Forwarding
    );
    """,
    """
    CREATE TABLE manifests (
        digest TEXT PRIMARY KEY,         -- sha256:... of the manifest, which is a blob
        image_id TEXT NOT NULL REFERENCES images (id),
        record BLOB NOT NULL             -- msgspec JSON of storage.image_records.KnownManifest
    );
    CREATE TABLE fetched_blobs (         -- brought by pulls that are not finished: no image needs them yet
        digest TEXT PRIMARY KEY,
        size INTEGER NOT NULL,           -- bytes
        fetched_ns INTEGER NOT NULL      -- since the epoch
    );
    ALTER TABLE image_names ADD COLUMN target TEXT NOT NULL DEFAULT '';  -- digest of the index or manifest, if known
    """,
    """
    CREATE TABLE build_results (
        id TEXT PRIMARY KEY,
        record BLOB NOT NULL             -- msgspec JSON of engine.builds.cache.Cached
    );
    CREATE TABLE build_keys (
        key TEXT PRIMARY KEY,            -- hash of what was asked and of what it was done to
        result TEXT NOT NULL REFERENCES build_results (id) ON DELETE CASCADE
    );
    CREATE INDEX build_keys_of_result ON build_keys (result);
    CREATE TABLE build_lists (
        context TEXT PRIMARY KEY,        -- which of a client's directories
        used_ns INTEGER NOT NULL,
        digests BLOB NOT NULL            -- of the contents, 32 bytes each
    );
    """,
)
