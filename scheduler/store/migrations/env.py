"""How Alembic runs here: on the connection that `scheduler.store.migrate` hands over, inside its transaction."""

from alembic import context

from scheduler.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
