"""What holds only after the rows were carried over, and the index of the word search."""

from django.db import migrations, models

TABLE = "institutions_rororganisation"
WORDS = "array_to_tsvector(string_to_array(words, ' '))"  # lexemes as they are: no parser, no language


class Migration(migrations.Migration):

    dependencies = [
        ('institutions', '0003_carry_over'),
    ]

    operations = [
        migrations.AddConstraint(
            model_name='institution',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('status', 'declined'), _negated=True), models.Q(models.Q(('decision_code', ''), _negated=True), models.Q(('decision_reason', ''), _negated=True)), _connector='OR'), name='institution_declined_says_why'),
        ),
        migrations.AddConstraint(
            model_name='membership',
            constraint=models.UniqueConstraint(condition=models.Q(('ended_at__isnull', True), ('role__in', ['principal_investigator', 'signing_official'])), fields=('user', 'institution'), name='investigator_is_not_signing_official'),
        ),
        migrations.RunSQL(
            f"ALTER TABLE {TABLE} ADD COLUMN lexemes tsvector GENERATED ALWAYS AS ({WORDS}) STORED",
            f"ALTER TABLE {TABLE} DROP COLUMN lexemes",
        ),
        migrations.RunSQL(f"CREATE INDEX ror_words ON {TABLE} USING gin (lexemes)", "DROP INDEX ror_words"),
        migrations.RunSQL(f'CREATE INDEX ror_key ON {TABLE} (key COLLATE "C")', "DROP INDEX ror_key"),
    ]
