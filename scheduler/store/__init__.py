"""PostgreSQL, the truth: tables, migrations, claims, tickets, slots and the history."""
