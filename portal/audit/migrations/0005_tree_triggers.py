"""The tree over the log grows and refuses by itself."""

from django.db import migrations

from portal.audit.migrations import _tree


class Migration(migrations.Migration):
    dependencies = [("audit", "0004_tree")]
    operations = _tree.OPERATIONS
