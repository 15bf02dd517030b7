"""Pages of contributions: the list, the wizard of a draft, the contribution with its live checks."""

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET, require_POST

from contributions import (
    attestations,
    credit_views,
    deletion,
    drafts,
    embargo,
    embargo_views,
    hold_views,
    incident_views,
    incidents,
    isolation,
    kinds,
    room,
    services,
    versions,
    whereabouts,
)
from contributions.forms import AttestationForm, CardFileForm, CardForm, DetailsForm, NewForm, WithdrawForm
from contributions.lifecycle import CLOSED, Status
from contributions.models import Contribution
from contributions.readiness import may_contribute
from contributions.rules import institutions_to_act_for, moved_to, require_not_moved, require_steward
from jobs.kit import cards
from portal import storage
from portal.accounts.requests import SignedInRequest
from portal.errors import DomainError, note
from portal.institutions import advice
from portal.programmes import services as programmes

PAGE_SIZE = 50


class NotPossible(DomainError):
    """The contribution has moved on since the person opened the page."""

    code = "not_possible"


def _contribution(request: SignedInRequest, pk: int, *, action: str = "") -> Contribution:
    """Return a contribution that the person may see; with `action`, one on which it is possible now."""
    rows = Contribution.objects.select_related("institution", "base_model", "programme", "created_by", "supersedes")
    contribution = get_object_or_404(rows.visible_to(request.user), pk=pk)
    if action and action not in services.available_actions(contribution, request.user):
        require_steward(request.user, contribution.institution)
        require_not_moved(contribution)
        raise NotPossible(
            f"{contribution} is {contribution.get_status_display().lower()}, so this is not possible any more.",
            next_url=contribution.get_absolute_url(),
        )
    return contribution


@require_GET
def list_(request: SignedInRequest) -> HttpResponse:
    """List the contributions that the person may see, newest first."""
    rows = Contribution.objects.visible_to(request.user).select_related("institution", "base_model")
    before = request.GET.get("before", "")
    page = list((rows.filter(pk__lt=int(before[:18])) if before.isdecimal() else rows)[: PAGE_SIZE + 1])
    context = {
        "contributions": page[:PAGE_SIZE],
        "today": embargo.today(timezone.now()),
        "closed": CLOSED,
        "more": page[PAGE_SIZE - 1].pk if len(page) > PAGE_SIZE else None,
        "before": before,
        "may_start": institutions_to_act_for(request.user).exists(),
    }
    return render(request, "contributions/contribution_list.html", context)


# The wizard


def new(request: SignedInRequest) -> HttpResponse:
    """Step 1 of a new contribution: for whom, of which kind, what."""
    own = list(institutions_to_act_for(request.user))
    offered = list(programmes.offering(list(kinds.OPEN)))
    wanted = request.GET.get("programme", "")
    programme = offered[0] if len(offered) == 1 else next((row for row in offered if row.slug == wanted), None)
    if own and len(offered) > 1 and programme is None:
        return render(request, "contributions/programme_choose.html", {"programmes": offered})
    initial = {"institution": next(iter(own), None)}
    now = timezone.now()
    form = NewForm(request.POST or None, user=request.user, programme=programme, initial=initial, now=now)
    if form.is_valid():
        contribution = services.draft(**form.details(), training_card={}, by=request.user, now=now)
        return redirect("contributions:card", contribution.pk)
    context = {
        "form": form,
        "steps": _steps(kinds.WEIGHTS),
        "kinds": [(kind, programme and kind.slug in programme.kinds) for kind in kinds.OPEN.values()],
        "not_open": kinds.NOT_OPEN,
        "programme": programme,
        "several": len(offered) > 1,
        "advice": [(institution, advice.recommend(institution)) for institution in own],
    }
    return render(request, "contributions/contribution_new.html", context)


def edit(request: SignedInRequest, pk: int) -> HttpResponse:
    """Step 1 of a draft: title, base model, embargo."""
    contribution = _contribution(request, pk, action="change")
    now = timezone.now()
    form = DetailsForm(request.POST or None, programme=contribution.programme, contribution=contribution, now=now)
    if form.is_valid():
        try:
            services.change(contribution, **form.details(), as_read=True, by=request.user, now=now)
        except drafts.ChangedMeanwhile:
            return edit(request, pk)  # which reads what stands now, and says so
        return redirect("contributions:card", contribution.pk)
    return render(request, "contributions/contribution_edit.html", _step(contribution, form=form))


def _step(contribution: Contribution, **context: Any) -> dict[str, Any]:
    kind = kinds.of(contribution.kind)
    return {"contribution": contribution, "kind": kind, "steps": _steps(kind), **context}


def _steps(kind: kinds.Kind) -> list[Any]:
    return [_("Details"), _("Training card"), kind.step, _("Review and submit")]


def card(request: SignedInRequest, pk: int) -> HttpResponse:
    """Step 2: the training card."""
    contribution = _contribution(request, pk, action="change")
    unfinished = "unfinished" in request.POST
    form = CardForm(request.POST or None, contribution=contribution, unfinished=unfinished)
    if form.is_valid():
        try:
            services.change(contribution, training_card=form.card(), as_read=True, by=request.user, now=timezone.now())
        except drafts.ChangedMeanwhile:
            return card(request, pk)  # as above
        if unfinished:
            messages.success(request, "The draft is saved. Come back to it when you have the rest.")
        return redirect("contributions:show" if unfinished else "contributions:upload", contribution.pk)
    return render(request, "contributions/contribution_card.html", _step(contribution, form=form, fill=CardFileForm()))


def fill_card(request: SignedInRequest, pk: int) -> HttpResponse:
    """Fill the training card from the kit's file."""
    if request.method != "POST":  # its answer, opened again
        return redirect("contributions:card", pk)
    contribution = _contribution(request, pk, action="change")
    fill = CardFileForm(request.POST, request.FILES)
    if fill.is_valid():
        filled = {**contribution.training_card, **fill.cleaned_data["card_file"]}
        try:
            contribution = services.change(
                contribution, training_card=filled, as_read=True, by=request.user, now=timezone.now()
            )
        except (services.CardRefused, drafts.ChangedMeanwhile) as exc:
            fill.add_error("card_file", str(exc))
        else:
            left = sum(problem.missing for problem in cards.problems(filled))
            rest = f"Answers still missing: {left}." if left else "Check it, then continue."
            messages.success(request, f"The card is filled from the file. {rest}")
            return redirect("contributions:card", contribution.pk)
    context = _step(contribution, form=CardForm(contribution=contribution), fill=fill)
    return render(request, "contributions/contribution_card.html", context)


@require_GET
def upload(request: SignedInRequest, pk: int) -> HttpResponse:
    """Step 3: the file goes from the browser to the store; this page only shows how far it is."""
    return _upload_page(request, _contribution(request, pk, action="change"), AttestationForm())


def _upload_page(
    request: SignedInRequest, contribution: Contribution, form: AttestationForm, status: int = 200
) -> HttpResponse:
    files = list(contribution.files.all())
    unfinished = next((file for file in files if file.state == "uploading"), None)
    context = _step(
        contribution,
        arrived=[file for file in files if file.state != "uploading"],
        unfinished=unfinished,
        takes_more=len(files) < kinds.of(contribution.kind).most_files,
        form=form,
        statements=attestations.state(contribution),
        keys=contribution.institution.signing_keys.in_force().exists(),
        decision=may_contribute(contribution),
        parts_uploaded=len(services.parts_uploaded(unfinished)) if unfinished else 0,
        part_size_bytes=storage.PART_SIZE_BYTES,
        max_bytes=settings.UPLOAD_MAX_BYTES,
        room=room.of(contribution.institution),
        send_command=kinds.send_command(contribution),
    )
    return render(request, "contributions/contribution_upload.html", context, status=status)


def attest(request: SignedInRequest, pk: int) -> HttpResponse:
    """Add a signature or a privacy report that the kit wrote to a draft."""
    if request.method != "POST":  # its answer, opened again
        return redirect("contributions:upload", pk)
    contribution = _contribution(request, pk, action="change")
    form = AttestationForm(request.POST, request.FILES)
    if not form.is_valid():
        return _upload_page(request, contribution, form, status=422)
    kind, envelope = form.cleaned_data["statement"]
    row = attestations.attest(contribution, kind=kind, envelope=envelope, by=request.user, now=timezone.now())
    messages.success(request, f"The {row.get_kind_display().lower()} is here. Workers check it once you submit.")
    return redirect("contributions:upload", contribution.pk)


@require_POST
def remove_file(request: SignedInRequest, pk: int, file_pk: int) -> HttpResponse:
    """Take a file out of a draft."""
    contribution = _contribution(request, pk, action="change")
    file = contribution.files.filter(pk=file_pk).first()
    if file is not None:  # else another window was first
        services.remove_file(file, by=request.user)
    messages.success(request, "The file is removed. Choose another one.")
    return redirect("contributions:upload", contribution.pk)


def submit(request: SignedInRequest, pk: int) -> HttpResponse:
    """Step 4: read it all once more, see what is missing, submit."""
    contribution = _contribution(request, pk, action="submit")
    if request.method == "POST":
        try:
            services.submit(contribution, by=request.user, now=timezone.now())
        except DomainError as exc:
            note(request, exc)
            return _review(request, contribution, services.obstacles(contribution) or [exc], status=exc.status)
        messages.success(request, "Submitted. The checks start by themselves; this page follows them.")
        return redirect(contribution)
    return _review(request, contribution, services.obstacles(contribution))


def _review(
    request: SignedInRequest, contribution: Contribution, obstacles: list[Any], status: int = 200
) -> HttpResponse:
    context = _step(
        contribution,
        obstacles=obstacles,
        files=contribution.files.all(),
        card=cards.read_back(contribution.training_card),
    )
    return render(request, "contributions/contribution_submit.html", context, status=status)


# The contribution


@require_GET
def show(request: SignedInRequest, pk: int) -> HttpResponse:
    """Show a contribution: state, checks, files, card, history, and what the person may do."""
    contribution = _contribution(request, pk)
    # The board sees what was before it, not what the checks refused before, nor the draft that is to come.
    visible = Contribution.objects.visible_to(request.user)
    corrected = visible.filter(superseded_by=contribution).first()
    context = {
        **whereabouts.of_page(contribution),
        "files": incidents.shown_files(contribution, request.user),
        "kind": kinds.of(contribution.kind),
        "card": cards.read_back(contribution.training_card),
        "actions": services.available_actions(contribution, request.user),
        "obstacles": _obstacles(contribution),
        "outlook": deletion.outlook(contribution, now=timezone.now()),
        **embargo_views.of_page(request, contribution),
        **hold_views.of_page(request, contribution),
        **incident_views.of_page(request, contribution),
        "successor": visible.filter(supersedes=contribution).first(),
        **versions.use_of(contribution, request.user),
        "corrected": corrected,
        "changes": _changes(contribution, corrected),
        **credit_views.of_page(request, contribution),
        "timeline": versions.history(contribution),
    }
    return render(request, "contributions/contribution_show.html", context)


def _obstacles(contribution: Contribution) -> list[DomainError]:
    """Return what is still missing; nothing of a draft that is not sent any more."""
    is_sendable = contribution.status == Status.DRAFT and not moved_to(contribution)
    return services.obstacles(contribution) if is_sendable else []


def _changes(contribution: Contribution, before: Contribution | None) -> list[versions.Change]:
    """Return what a correction changed; nothing of what is isolated is shown."""
    if before is None or isolation.current(before) or isolation.current(contribution):
        return []
    return versions.changes(before, contribution)


@require_GET
def status(request: SignedInRequest, pk: int) -> HttpResponse:
    """Answer the part that follows the checks; 204 while it is as the page has it, so that nothing open closes."""
    contribution = _contribution(request, pk)
    context = whereabouts.of_page(contribution)
    if request.GET.get("seen") == context["seen"]:
        return HttpResponse(status=204)
    context |= embargo_views.of_page(request, contribution)
    context["actions"] = services.available_actions(contribution, request.user)
    response = render(request, "contributions/_checks.html", {**context, "swap": True})
    if not context["is_busy"]:
        response.headers["HX-Trigger"] = "checks-ended"  # files and history are drawn anew
    return response


@require_GET
def evidence(request: SignedInRequest, pk: int, evidence_pk: int) -> HttpResponse:
    """Show a picture that a check made of a contribution's samples. Nothing else is served from here."""
    contribution = _contribution(request, pk)
    row = get_object_or_404(contribution.evidence_files, pk=evidence_pk)
    isolation.require_none(contribution)
    if not row.name.endswith(".png") or contribution.deletion_began_at is not None:
        raise Http404
    response = HttpResponse(storage.get(storage.VAULT, row.storage_key), content_type="image/png")
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response.headers["Cache-Control"] = "private, max-age=3600"
    return response


def withdraw(request: SignedInRequest, pk: int) -> HttpResponse:
    """Take a contribution back, after a look at what that means."""
    contribution = _contribution(request, pk, action="withdraw")
    form = WithdrawForm(request.POST or None)
    if form.is_valid():
        services.withdraw(contribution, **form.cleaned_data, by=request.user, now=timezone.now())
        messages.success(request, "The contribution is withdrawn.")
        return redirect(contribution)
    wait = deletion.after_withdrawal(contribution.programme, contribution.kind)
    context = {
        "contribution": contribution,
        "form": form,
        **versions.use_of(contribution, request.user),
        "deleted_on": None if wait is None else timezone.now() + wait,
        "hold": deletion.current_hold(contribution),
        "holds_files": deletion.holds_files(contribution),
    }
    return render(request, "contributions/contribution_withdraw.html", context)


def delete_files(request: SignedInRequest, pk: int) -> HttpResponse:
    """Have the files of a closed contribution deleted, after a look at which."""
    contribution = _contribution(request, pk, action="delete_files")
    hold = deletion.current_hold(contribution)
    if request.method == "POST":
        deletion.ask(contribution, by=request.user, now=timezone.now())
        when = "Once the hold is released, the files are" if hold else "The files are being"
        messages.success(request, f"{when} deleted. Your institution is told when they are gone.")
        return redirect(contribution)
    files = contribution.files.exclude(state="deleted")
    context = {"contribution": contribution, "files": files, "hold": hold}
    return render(request, "contributions/contribution_delete_files.html", context)


@require_POST
def replace(request: SignedInRequest, pk: int) -> HttpResponse:
    """Begin a corrected contribution."""
    correction = services.replace(_contribution(request, pk), by=request.user, now=timezone.now())
    messages.success(request, "A corrected contribution is begun. The training card is copied; send the new file.")
    return redirect("contributions:edit", correction.pk)
