"""Agreements as a library, signing as a case. What is signed already is carried over by the next two migrations."""
import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import portal.agreements.models


class Migration(migrations.Migration):
    dependencies = [
        ('agreements', '0002_append_only'),
        ('institutions', '0001_initial'),
        ('programmes', '0001_initial'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RenameField(model_name='signature', old_name='typed_name', new_name='printed_name'),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    model_name='signature',
                    name='authentication',
                    field=models.JSONField(help_text='The methods by which the signer proved who they are, again.'),
                ),
            ],
            database_operations=[
                migrations.RunSQL(
                    'ALTER TABLE agreements_signature ALTER COLUMN authentication TYPE jsonb '
                    'USING jsonb_build_array(authentication)'
                ),
            ],
        ),
        migrations.CreateModel(
            name='Agreement',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('slug', models.SlugField(max_length=60)),
                ('title', models.CharField(max_length=200)),
                ('summary', models.TextField(blank=True, help_text='What it is for, in one or two plain sentences.')),
                ('covers', models.JSONField(default=portal.agreements.models.all_kinds, help_text='The kinds of contribution that need it.')),
                ('signing_order', models.JSONField(default=portal.agreements.models.default_order, help_text='Who signs, first to last.')),
                ('months_valid', models.PositiveSmallIntegerField(blank=True, help_text='Empty: it does not expire.', null=True)),
                ('reconsent_days', models.PositiveSmallIntegerField(default=60, help_text='To sign a material new version.')),
                ('grace_days', models.PositiveSmallIntegerField(default=30, help_text='After that, before work stops.')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                'ordering': ['programme', 'id'],
            },
        ),
        migrations.CreateModel(
            name='AgreementTranslation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('language', models.CharField(max_length=10)),
                ('text', models.TextField()),
                ('sha256', models.CharField(max_length=64)),
                ('side_notes', models.JSONField(blank=True, default=dict)),
            ],
            options={
                'ordering': ['language'],
            },
        ),
        migrations.CreateModel(
            name='CoveredInstitution',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('confirmed_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'ordering': ['id'],
            },
        ),
        migrations.CreateModel(
            name='SigningRequest',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('status', models.CharField(choices=[('draft', 'Draft'), ('signing', 'Being signed'), ('active', 'Active'), ('expired', 'Expired'), ('terminated', 'Terminated'), ('superseded', 'Replaced by a later one'), ('declined', 'Declined'), ('withdrawn', 'Withdrawn')], default='draft', max_length=20)),
                ('status_since', models.DateTimeField(default=django.utils.timezone.now)),
                ('variables', models.JSONField(default=dict)),
                ('text', models.TextField(help_text='Rendered: exactly what is signed.')),
                ('text_sha256', models.CharField(max_length=64)),
                ('expires_on', models.DateField(blank=True, help_text='The last day on which it is valid.', null=True)),
                ('receipt_code', models.CharField(default=portal.agreements.models.new_receipt_code, max_length=20, unique=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('activated_at', models.DateTimeField(blank=True, null=True)),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
                ('reason', models.TextField(blank=True, help_text='Why it was declined, withdrawn or terminated.')),
            ],
            options={
                'ordering': ['-id'],
            },
        ),
        migrations.AlterModelOptions(
            name='signature',
            options={'ordering': ['request', 'position']},
        ),
        migrations.RemoveConstraint(
            model_name='agreementversion',
            name='agreement_version_once',
        ),
        migrations.RemoveConstraint(
            model_name='signature',
            name='one_signature_per_institution',
        ),
        migrations.RemoveConstraint(
            model_name='signature',
            name='signature_by_signing_official',
        ),
        migrations.AddField(
            model_name='agreementversion',
            name='is_material',
            field=models.BooleanField(default=True, help_text='Whether signers of earlier versions must sign again.'),
        ),
        migrations.AddField(
            model_name='agreementversion',
            name='language',
            field=models.CharField(default='en', help_text='Of the text, which alone is binding.', max_length=10),
        ),
        migrations.AddField(
            model_name='agreementversion',
            name='side_notes',
            field=models.JSONField(blank=True, default=dict, help_text='Section number to plain words.'),
        ),
        migrations.AddField(
            model_name='signature',
            name='audit_index',
            field=models.BigIntegerField(null=True, help_text='The number of its event in the audit log.', unique=True),
        ),
        migrations.AddField(
            model_name='signature',
            name='authority',
            field=models.TextField(null=True, help_text='What the signer stated about the authority to sign.'),
        ),
        migrations.AddField(
            model_name='signature',
            name='document_id',
            field=models.CharField(null=True, help_text="The agreement's short name in its programme.", max_length=60),
        ),
        migrations.AddField(
            model_name='signature',
            name='document_title',
            field=models.CharField(null=True, max_length=200),
        ),
        migrations.AddField(
            model_name='signature',
            name='institution_name',
            field=models.CharField(null=True, help_text='As it was called then.', max_length=250),
        ),
        migrations.AddField(
            model_name='signature',
            name='position',
            field=models.PositiveSmallIntegerField(null=True, help_text='1 is the first signature of the case.'),
        ),
        migrations.AddField(
            model_name='signature',
            name='previous_sha256',
            field=models.CharField(blank=True, help_text='Empty for the first one.', max_length=64),
        ),
        migrations.AddField(
            model_name='signature',
            name='version',
            field=models.PositiveIntegerField(null=True),
        ),
        migrations.AlterField(
            model_name='agreementversion',
            name='text',
            field=models.TextField(help_text='Markdown with {{ variables }}.'),
        ),
        migrations.AlterField(
            model_name='signature',
            name='institution',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='signatures', to='institutions.institution'),
        ),
        migrations.AlterField(
            model_name='signature',
            name='ip_address',
            field=models.GenericIPAddressField(blank=True, null=True),
        ),
        migrations.AlterField(
            model_name='signature',
            name='role',
            field=models.CharField(choices=[('principal_investigator', 'Principal investigator'), ('signing_official', 'Signing official'), ('consortium', 'Consortium')], max_length=30),
        ),
        migrations.AddField(
            model_name='agreement',
            name='programme',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='agreements', to='programmes.programme'),
        ),
        migrations.AddField(
            model_name='agreementversion',
            name='agreement',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='versions', to='agreements.agreement'),
        ),
        migrations.AddField(
            model_name='agreementtranslation',
            name='version',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='translations', to='agreements.agreementversion'),
        ),
        migrations.AddField(
            model_name='coveredinstitution',
            name='confirmed_by',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='coveredinstitution',
            name='institution',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='covered_by', to='institutions.institution'),
        ),
        migrations.AddField(
            model_name='signingrequest',
            name='agreement',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='requests', to='agreements.agreement'),
        ),
        migrations.AddField(
            model_name='signingrequest',
            name='agreement_version',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='requests', to='agreements.agreementversion'),
        ),
        migrations.AddField(
            model_name='signingrequest',
            name='institution',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='signing_requests', to='institutions.institution'),
        ),
        migrations.AddField(
            model_name='signingrequest',
            name='renews',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='renewals', to='agreements.signingrequest'),
        ),
        migrations.AddField(
            model_name='signingrequest',
            name='started_by',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='coveredinstitution',
            name='request',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='covered', to='agreements.signingrequest'),
        ),
        migrations.AddField(
            model_name='signature',
            name='request',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='signatures', to='agreements.signingrequest'),
        ),
        migrations.AddConstraint(
            model_name='agreement',
            constraint=models.UniqueConstraint(fields=('programme', 'slug'), name='agreement_slug_once'),
        ),
        migrations.AddConstraint(
            model_name='agreement',
            constraint=models.CheckConstraint(condition=models.Q(('months_valid', 0), _negated=True), name='agreement_valid_for_some_time'),
        ),
        migrations.AddConstraint(
            model_name='agreement',
            constraint=models.CheckConstraint(condition=models.Q(('signing_order', []), _negated=True), name='agreement_has_a_signer'),
        ),
        migrations.AddConstraint(
            model_name='agreementtranslation',
            constraint=models.UniqueConstraint(fields=('version', 'language'), name='agreement_translation_once'),
        ),
        migrations.AddConstraint(
            model_name='agreementtranslation',
            constraint=models.CheckConstraint(condition=models.Q(('sha256__regex', '^[0-9a-f]{64}$')), name='agreement_translation_sha256'),
        ),
        migrations.AddConstraint(
            model_name='signingrequest',
            constraint=models.CheckConstraint(condition=models.Q(('status__in', ['draft', 'signing', 'active', 'expired', 'terminated', 'superseded', 'declined', 'withdrawn'])), name='request_status_known'),
        ),
        migrations.AddConstraint(
            model_name='signingrequest',
            constraint=models.CheckConstraint(condition=models.Q(('text_sha256__regex', '^[0-9a-f]{64}$')), name='request_sha256'),
        ),
        migrations.AddConstraint(
            model_name='signingrequest',
            constraint=models.CheckConstraint(condition=models.Q(('receipt_code__regex', '^[0-9a-f]{20}$')), name='request_receipt_code'),
        ),
        migrations.AddConstraint(
            model_name='signingrequest',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('activated_at__isnull', False), ('status__in', ['active', 'expired', 'terminated', 'superseded'])), models.Q(('activated_at__isnull', True), models.Q(('status__in', ['active', 'expired', 'terminated', 'superseded']), _negated=True)), _connector='OR'), name='request_activated_at_iff_activated'),
        ),
        migrations.AddConstraint(
            model_name='signingrequest',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('ended_at__isnull', False), ('status__in', ['expired', 'terminated', 'superseded', 'declined', 'withdrawn'])), models.Q(('ended_at__isnull', True), models.Q(('status__in', ['expired', 'terminated', 'superseded', 'declined', 'withdrawn']), _negated=True)), _connector='OR'), name='request_ended_at_iff_ended'),
        ),
        migrations.AddConstraint(
            model_name='signingrequest',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('status__in', ['declined', 'terminated']), _negated=True), models.Q(('reason', ''), _negated=True), _connector='OR'), name='request_end_has_a_reason'),
        ),
        migrations.AddConstraint(
            model_name='signingrequest',
            constraint=models.UniqueConstraint(condition=models.Q(('status__in', ['draft', 'signing'])), fields=('institution', 'agreement'), name='one_open_request'),
        ),
        migrations.AddConstraint(
            model_name='signingrequest',
            constraint=models.UniqueConstraint(condition=models.Q(('status', 'active')), fields=('institution', 'agreement'), name='one_active_request'),
        ),
        migrations.AddConstraint(
            model_name='coveredinstitution',
            constraint=models.UniqueConstraint(fields=('request', 'institution'), name='institution_covered_once'),
        ),
        migrations.AddConstraint(
            model_name='coveredinstitution',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('confirmed_at__isnull', True), ('confirmed_by__isnull', True)), models.Q(('confirmed_at__isnull', False), ('confirmed_by__isnull', False)), _connector='OR'), name='cover_confirmed_at_iff_by'),
        ),
    ]
