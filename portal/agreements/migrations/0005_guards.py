"""What every row has now, and what the database refuses from here on."""
import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

from portal.agreements.migrations import _guards


class Migration(migrations.Migration):
    dependencies = [('agreements', '0004_carry_over')]

    operations = [
        migrations.AlterField(
            model_name='signature',
            name='audit_index',
            field=models.BigIntegerField(help_text='The number of its event in the audit log.', unique=True),
        ),
        migrations.AlterField(
            model_name='signature',
            name='authority',
            field=models.TextField(help_text='What the signer stated about the authority to sign.'),
        ),
        migrations.AlterField(
            model_name='signature',
            name='document_id',
            field=models.CharField(help_text="The agreement's short name in its programme.", max_length=60),
        ),
        migrations.AlterField(
            model_name='signature',
            name='document_title',
            field=models.CharField(max_length=200),
        ),
        migrations.AlterField(
            model_name='signature',
            name='institution_name',
            field=models.CharField(help_text='As it was called then.', max_length=250),
        ),
        migrations.AlterField(
            model_name='signature',
            name='position',
            field=models.PositiveSmallIntegerField(help_text='1 is the first signature of the case.'),
        ),
        migrations.AlterField(
            model_name='signature',
            name='version',
            field=models.PositiveIntegerField(),
        ),
        migrations.AlterField(
            model_name='agreementversion',
            name='agreement',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='versions', to='agreements.agreement'),
        ),
        migrations.AlterField(
            model_name='signature',
            name='request',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='signatures', to='agreements.signingrequest'),
        ),
        migrations.RemoveField(
            model_name='agreementversion',
            name='programme',
        ),
        migrations.RemoveField(
            model_name='agreementversion',
            name='title',
        ),
        migrations.RemoveField(
            model_name='signature',
            name='agreement',
        ),
        migrations.RemoveField(
            model_name='signature',
            name='receipt_code',
        ),
        migrations.AddConstraint(
            model_name='agreementversion',
            constraint=models.UniqueConstraint(fields=('agreement', 'version'), name='agreement_version_once'),
        ),
        migrations.AddConstraint(
            model_name='signature',
            constraint=models.UniqueConstraint(fields=('request', 'position'), name='one_signature_per_position'),
        ),
        migrations.AddConstraint(
            model_name='signature',
            constraint=models.UniqueConstraint(fields=('request', 'role'), name='one_signature_per_role'),
        ),
        migrations.AddConstraint(
            model_name='signature',
            constraint=models.UniqueConstraint(fields=('request', 'signer'), name='nobody_signs_twice'),
        ),
        migrations.AddConstraint(
            model_name='signature',
            constraint=models.CheckConstraint(condition=models.Q(('role__in', ['principal_investigator', 'signing_official', 'consortium'])), name='signature_role_known'),
        ),
        migrations.AddConstraint(
            model_name='signature',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('position', 1), ('previous_sha256', '')), models.Q(('position__gt', 1), ('previous_sha256__regex', '^[0-9a-f]{64}$')), _connector='OR'), name='signature_chained'),
        ),
        migrations.AddConstraint(
            model_name='signature',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('institution__isnull', True), ('role', 'consortium')), models.Q(models.Q(('role', 'consortium'), _negated=True), ('institution__isnull', False)), _connector='OR'), name='signature_of_an_institution_or_the_consortium'),
        ),
        migrations.AddConstraint(
            model_name='signature',
            constraint=models.CheckConstraint(condition=models.Q(('printed_name', ''), _negated=True), name='signature_has_a_printed_name'),
        ),
        *_guards.OPERATIONS,
    ]
