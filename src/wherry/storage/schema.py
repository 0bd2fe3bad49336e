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
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        time_ns INTEGER NOT NULL,
        record BLOB NOT NULL             -- msgspec JSON of model.events.Event
    );
    CREATE INDEX events_by_time ON events (time_ns);
    """,
)
