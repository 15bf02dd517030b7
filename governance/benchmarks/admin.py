from django.contrib import admin

from governance.benchmarks.models import Evaluation, Task
from portal.admin import ReadOnlyAdmin


@admin.register(Task)
class TaskAdmin(ReadOnlyAdmin):
    list_display = ["name", "slug", "dataset", "label", "position"]
    list_select_related = ["dataset"]


@admin.register(Evaluation)
class EvaluationAdmin(ReadOnlyAdmin):
    list_display = ["candidate", "task", "auroc", "low", "high", "n", "recorded_at"]
    list_filter = ["task"]
    list_select_related = ["candidate", "task"]
