"""What holds only after the rows were carried over, and the index of the word search."""

from django.db import migrations, models

WORDS = "array_to_tsvector(string_to_array(words, ' '))"


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
            f"CREATE INDEX ror_words ON institutions_rororganisation USING gin ({WORDS})",
            "DROP INDEX ror_words",
        ),
        migrations.RunSQL(
            "CREATE INDEX ror_key ON institutions_rororganisation (key text_pattern_ops)", "DROP INDEX ror_key"
        ),
    ]
