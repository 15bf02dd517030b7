from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('board', '0006_carry_over'),
    ]

    operations = [
        migrations.RemoveField(
            model_name='motion',
            name='quorum',
        ),
        migrations.RemoveField(
            model_name='motion',
            name='threshold_percent',
        ),
        migrations.AddConstraint(
            model_name='motion',
            constraint=models.CheckConstraint(condition=models.Q(('status__in', ['reviewing', 'open', 'tied', 'carried', 'lost', 'lapsed', 'returned', 'withdrawn'])), name='motion_status_known'),
        ),
        migrations.AddConstraint(
            model_name='motion',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('closed_at__isnull', True), ('status__in', ['reviewing', 'open', 'tied'])), models.Q(models.Q(('status__in', ['reviewing', 'open', 'tied']), _negated=True), ('closed_at__isnull', False)), _connector='OR'), name='motion_closed_at_iff_closed'),
        ),
        migrations.AddConstraint(
            model_name='motion',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('closes_at__isnull', True), ('status', 'reviewing')), ('status__in', ['returned', 'withdrawn']), models.Q(models.Q(('status', 'reviewing'), _negated=True), ('closes_at__isnull', False)), _connector='OR'), name='motion_closes_at_once_its_ballot_is_open'),
        ),
        migrations.AddConstraint(
            model_name='motion',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('status__in', ['carried', 'lost', 'lapsed']), _negated=True), ('arithmetic__isnull', False), _connector='OR'), name='motion_decided_with_its_arithmetic'),
        ),
        migrations.AddConstraint(
            model_name='motion',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('agreement__isnull', True), ('contribution__isnull', True), ('institution__isnull', False), ('kind', 'admit_institution'), ('person__isnull', True), ('release__isnull', True), ('task__isnull', True)), models.Q(('agreement__isnull', True), ('contribution__isnull', False), ('institution__isnull', False), ('kind', 'approve_contribution'), ('person__isnull', True), ('release__isnull', True), ('task__isnull', True)), models.Q(('agreement__isnull', True), ('contribution__isnull', True), ('institution__isnull', True), ('kind', 'release_model'), ('person__isnull', True), ('release__isnull', False), ('task__isnull', True)), models.Q(('agreement__isnull', True), ('contribution__isnull', True), ('institution__isnull', True), ('kind', 'retract_release'), ('person__isnull', True), ('release__isnull', False), ('task__isnull', True)), models.Q(('agreement__isnull', True), ('contribution__isnull', False), ('institution__isnull', False), ('kind', 'settle_withdrawal'), ('person__isnull', True), ('release__isnull', True), ('task__isnull', True)), models.Q(('agreement__isnull', False), ('contribution__isnull', True), ('institution__isnull', True), ('kind', 'publish_agreement'), ('person__isnull', True), ('release__isnull', True), ('task__isnull', True)), models.Q(('agreement__isnull', True), ('contribution__isnull', True), ('institution__isnull', True), ('kind', 'adopt_task'), ('person__isnull', True), ('release__isnull', True), ('task__isnull', False)), models.Q(('agreement__isnull', True), ('contribution__isnull', True), ('institution__isnull', True), ('kind', 'give_seat'), ('person__isnull', False), ('release__isnull', True), ('task__isnull', True)), _connector='OR'), name='motion_has_its_subject'),
        ),
        migrations.AddConstraint(
            model_name='motion',
            constraint=models.CheckConstraint(condition=models.Q(('days__gte', 1), ('days__lte', 90), ('electorate__in', ['consortium', 'programme']), ('quorum_floor__gte', 1), ('quorum_percent__lte', 100), ('reviewers__lte', 5), ('threshold__in', ['majority', 'two_thirds', 'unanimous'])), name='motion_rule_in_range'),
        ),
        migrations.AddConstraint(
            model_name='motion',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('electorate', 'programme'), _negated=True), ('programme__isnull', False), _connector='OR'), name='motion_names_the_programme_that_votes'),
        ),
        migrations.AddConstraint(
            model_name='motion',
            constraint=models.UniqueConstraint(condition=models.Q(('contribution__isnull', False), ('status__in', ['reviewing', 'open', 'tied'])), fields=('kind', 'contribution'), name='one_undecided_motion_per_contribution'),
        ),
        migrations.AddConstraint(
            model_name='motion',
            constraint=models.UniqueConstraint(condition=models.Q(('release__isnull', False), ('status__in', ['reviewing', 'open', 'tied'])), fields=('kind', 'release'), name='one_undecided_motion_per_release'),
        ),
        migrations.AddConstraint(
            model_name='motion',
            constraint=models.UniqueConstraint(condition=models.Q(('agreement__isnull', False), ('status__in', ['reviewing', 'open', 'tied'])), fields=('kind', 'agreement'), name='one_undecided_motion_per_agreement'),
        ),
        migrations.AddConstraint(
            model_name='motion',
            constraint=models.UniqueConstraint(condition=models.Q(('status__in', ['reviewing', 'open', 'tied']), ('task__isnull', False)), fields=('kind', 'task'), name='one_undecided_motion_per_task'),
        ),
        migrations.AddConstraint(
            model_name='motion',
            constraint=models.UniqueConstraint(condition=models.Q(('person__isnull', False), ('status__in', ['reviewing', 'open', 'tied'])), fields=('kind', 'person'), name='one_undecided_motion_per_person'),
        ),
        migrations.AddConstraint(
            model_name='motion',
            constraint=models.UniqueConstraint(condition=models.Q(('kind', 'admit_institution'), ('status__in', ['reviewing', 'open', 'tied'])), fields=('institution',), name='one_undecided_motion_per_applicant'),
        ),
    ]
