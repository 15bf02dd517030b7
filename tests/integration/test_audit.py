"""The audit log: who reads it, what it is narrowed by, that nobody changes it."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError, transaction
from django.urls import reverse

from portal.audit import people, services
from portal.audit.models import AuditEvent
from portal.audit.verbs import SENTENCES
from tests import factories

LOG, CSV, LINES = (reverse(f"audit:{name}") for name in ("log", "csv", "json_lines"))


def record(verb, subject, *, by=None, **facts):
    with transaction.atomic():
        return services.record(verb, subject, by=by, **facts)


def rows_of(response) -> list[dict[str, str]]:
    text = b"".join(response.streaming_content).decode()
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize(
    ("who", "status"),
    [("auditor", 200), ("operator", 200), ("chair", 200), ("board_member", 403), ("steward", 403), ("researcher", 403)],
)
def test_the_log_is_read_by_auditors(request, sign_in, who, status):
    client = sign_in(request.getfixturevalue(who))
    assert [client.get(url).status_code for url in (LOG, CSV)] == [status, status]
    assert [client.post(url).status_code for url in (LOG, CSV)] == [405, 405]


def test_the_log_asks_strangers_to_sign_in(client, db):
    assert client.get(LOG).headers["Location"] == f"{reverse('account_login')}?next={LOG}"


def test_every_event_reads_as_a_sentence(sign_in, auditor, institution):
    events = sign_in(auditor).get(LOG).context["events"]
    assert [event.pk for event in events] == sorted((event.pk for event in events), reverse=True)
    sentences = {event.verb: event.sentence for event in events}
    assert sentences["institution.admitted"] == "system admitted Moi Eye Clinic"
    assert sentences["agreement.signed"] == (
        "Principal Investigator of Moi Eye Clinic signed Data-use agreement, version 1 for Moi Eye Clinic"
    )


def test_every_verb_has_a_sentence_that_names_the_actor():
    for verb, sentence in SENTENCES.items():
        assert verb.count(".") == 1
        assert "{actor}" in sentence


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"verb": "institution.applied"}, ["institution.applied", "institution.applied"]),
        ({"verb": "institution.applied", "institution": "first"}, ["institution.applied"]),
        ({"actor": "andes", "subject_type": "institution"}, ["institution.applied", "institution.drafted"]),
        (
            {"subject_type": "institution", "subject_id": "first", "verb": "institution.drafted"},
            ["institution.drafted"],
        ),
        ({"date_from": "2999-01-01"}, []),
        ({"date_to": "2000-01-01"}, []),
        ({"actor": "nobody at all"}, []),
    ],
)
def test_the_log_narrows(sign_in, auditor, programme, query, expected):
    first = factories.applied_institution("Moi Eye Clinic")
    factories.applied_institution("Andes Retina", country="PE")
    query = {name: first.pk if value == "first" else value for name, value in query.items()}
    client = sign_in(auditor)
    response = client.get(LOG, query)
    assert [event.verb for event in response.context["events"]] == expected
    assert [row["verb"] for row in rows_of(client.get(CSV, query))] == expected[::-1]


def test_days_begin_and_end_in_utc(sign_in, auditor):
    event = record("role.given", auditor)
    day = event.at.astimezone(UTC).date()
    client = sign_in(auditor)

    def found(**query):
        return event.pk in [row.pk for row in client.get(LOG, query).context["events"]]

    assert found(date_from=day, date_to=day)
    assert not found(date_from=day + timedelta(days=1))
    assert not found(date_to=day - timedelta(days=1))


@pytest.mark.parametrize("query", [{"date_from": "soon"}, {"verb": "x"}, {"subject_id": "-1"}, {"institution": "0"}])
def test_a_malformed_filter_shows_nothing_and_says_so(sign_in, auditor, query):
    client = sign_in(auditor)
    response = client.get(LOG, query)
    assert (response.status_code, response.context["events"]) == (422, [])
    assert list(response.context["form"].errors) == list(query)
    assert client.get(CSV, query).status_code == 422


def test_older_pages_go_by_number_and_keep_the_filters(sign_in, auditor, monkeypatch):
    monkeypatch.setattr("portal.audit.views.PAGE_SIZE", 2)
    events = [record("token.created", auditor, by=auditor) for _ in range(5)]
    record("token.revoked", auditor, by=auditor)
    client, seen, query = sign_in(auditor), [], {"verb": "token.created"}
    for _ in range(3):
        page = client.get(LOG, query)
        seen += [event.pk for event in page.context["events"]]
        assert page.context["query"] == "verb=token.created"
        query = {"verb": "token.created", "before": page.context["before"]}
    assert seen == [event.pk for event in reversed(events)]
    assert page.context["before"] == 0


@pytest.mark.parametrize("item_count", [1, 3])
def test_the_log_needs_the_same_queries_for_any_number(sign_in, auditor, item_count, django_assert_num_queries):
    for _ in range(item_count):
        record("institution.drafted", auditor, by=auditor)
    client = sign_in(auditor)
    client.get(LOG)
    with django_assert_num_queries(8):  # session, person, standing, right, unread, institutions, events, names
        client.get(LOG, {"verb": "institution.drafted"})


def test_the_csv_carries_the_facts_and_nothing_that_a_spreadsheet_runs(sign_in, auditor):
    auditor.name = "=HYPERLINK(1)"
    auditor.save()
    event = record("role.given", auditor, by=auditor, role="auditor")
    response = sign_in(auditor).get(CSV, {"subject_id": auditor.pk, "actor": "HYPERLINK"})
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    (row,) = rows_of(response)
    assert (row["id"], row["facts"], row["actor"]) == (str(event.pk), '{"role": "auditor"}', "'=HYPERLINK(1)")
    assert row["sentence"].startswith("'=")
    assert datetime.fromisoformat(row["at"]) == event.at


def test_an_event_can_be_neither_changed_nor_deleted(auditor):
    rows = AuditEvent.objects.all()
    count = rows.count()
    assert count > 0
    with pytest.raises(DatabaseError, match="append-only: UPDATE refused"), transaction.atomic():
        rows.update(actor_id=None)
    with pytest.raises(DatabaseError, match="append-only: DELETE refused"), transaction.atomic():
        rows._raw_delete(rows.db)
    assert rows.count() == count


@pytest.mark.django_db(transaction=True)
def test_an_event_is_written_in_the_transaction_of_its_change():
    person = factories.user("Ada")
    with pytest.raises(RuntimeError, match="outside a transaction"):
        services.record("token.created", person, by=person)
    assert AuditEvent.objects.count() == 0


def test_an_unknown_verb_is_refused(auditor):
    with pytest.raises(KeyError), transaction.atomic():
        services.record("token.eaten", auditor, by=auditor)


# People by reference


def test_the_log_shows_the_names_of_today_and_holds_none(sign_in, auditor):
    person = factories.user("Wilhelmina Oxenstierna", email="mina@example.org")
    event = record("token.created", person, by=person)
    assert "Oxenstierna" not in str(AuditEvent.objects.filter(pk=event.pk).values())
    person.name = "Mina Oxe"
    person.save()
    client = sign_in(auditor)
    for who in ("mina oxe", "MINA@example"):
        (row,) = client.get(LOG, {"actor": who}).context["events"]
        assert row.sentence == "Mina Oxe made Mina Oxe"
    assert client.get(LOG, {"actor": "Oxenstierna"}).context["events"] == []
    assert [row["actor"] for row in rows_of(client.get(CSV, {"actor": "mina oxe"}))] == ["Mina Oxe"]


def test_the_system_can_be_asked_for(sign_in, auditor, institution):
    events = sign_in(auditor).get(LOG, {"actor": "System"}).context["events"]
    assert {event.actor for event in events} == {"system"}
    assert "institution.admitted" in [event.verb for event in events]


def test_references_of_the_erased_and_the_unknown_are_former_members(researcher, now):
    text = f"{people.reference(researcher)} and {{person:999999}}"
    assert people.named(text) == "Rosa Researcher and a former member"
    researcher.is_active, researcher.erased_at = False, now
    researcher.save()
    assert people.named_all([text, "no reference"]) == ["a former member and a former member", "no reference"]


def test_a_name_that_looks_like_a_reference_reveals_nobody(researcher, sign_in, auditor):
    institution = factories.draft_institution(f"Clinic {people.reference(researcher)}")
    events = sign_in(auditor).get(LOG, {"institution": institution.pk}).context["events"]
    assert len(events) > 0
    assert not any("Rosa" in event.sentence for event in events)


def test_an_invitation_is_on_record_without_the_address(institution, steward):
    event = AuditEvent.objects.filter(verb="invitation.sent").latest("pk")
    assert event.subject == "invitation of a data steward to Moi Eye Clinic"


def test_names_cost_one_query_for_any_number(django_assert_num_queries, db):
    texts = [people.reference(factories.user(f"Person {number}")) for number in range(3)]
    with django_assert_num_queries(1):
        assert people.named_all(texts) == ["Person 0", "Person 1", "Person 2"]


# One object, and taking the log along


def timeline(subject_type: str, subject_id: int) -> str:
    return reverse("audit:timeline", args=[subject_type, subject_id])


def exported(response) -> list[dict]:
    return [json.loads(line) for line in b"".join(response.streaming_content).decode().splitlines()]


@pytest.mark.parametrize(("who", "status"), [("auditor", 200), ("chair", 200), ("steward", 403), ("researcher", 403)])
def test_timelines_and_files_are_for_who_reads_the_log(request, sign_in, institution, who, status):
    client = sign_in(request.getfixturevalue(who))
    urls = [timeline("institution", institution.pk), LINES]
    assert [client.get(url).status_code for url in urls] == [status, status]


def test_an_objects_timeline_has_its_events_and_no_others(sign_in, auditor, researcher, operator):
    given = record("role.given", researcher, by=operator)
    record("role.given", operator, by=operator)
    page = sign_in(auditor).get(timeline("user", researcher.pk))
    assert page.context["events"][0].pk == given.pk
    assert {(event.subject_type, event.subject_id) for event in page.context["events"]} == {("user", researcher.pk)}
    assert "Rosa Researcher" in page.text
    assert f'href="{LOG}?actor={researcher.pk}"' in page.text


def test_an_institutions_timeline_is_its_whole_file(sign_in, auditor, institution, outsider):
    client = sign_in(auditor)
    page = client.get(timeline("institution", institution.pk))
    assert {event.institution_id for event in page.context["events"]} == {institution.pk}
    assert {"institution.admitted", "agreement.signed"} < {event.verb for event in page.context["events"]}
    assert page.context["page"] == institution.get_absolute_url()


def test_what_never_happened_has_no_timeline(sign_in, auditor):
    client = sign_in(auditor)
    assert [client.get(timeline(kind, 999_999)).status_code for kind in ("user", "institution", "nothing")] == [404] * 3


@pytest.mark.parametrize("item_count", [1, 3])
def test_a_timeline_needs_the_same_queries_for_any_number(sign_in, auditor, item_count, django_assert_num_queries):
    for _ in range(item_count):
        record("institution.drafted", auditor, by=auditor)
    client = sign_in(auditor)
    client.get(LOG)
    with django_assert_num_queries(9):  # session, person, standing, right, unread; newest, events, their names
        client.get(timeline("user", auditor.pk))


def test_each_row_leads_to_its_objects_timeline(sign_in, auditor, institution):
    assert f'href="{timeline("institution", institution.pk)}"' in sign_in(auditor).get(LOG).text


def test_the_page_of_an_object_leads_readers_of_the_log_to_its_timeline(sign_in, auditor, steward, institution):
    link = timeline("institution", institution.pk)
    pages = [sign_in(person).get(institution.get_absolute_url()).text for person in (auditor, steward)]
    assert [link in page for page in pages] == [True, False]


def test_json_lines_carry_the_reference_and_the_name_of_today(sign_in, auditor, researcher):
    event = record("role.given", researcher, by=auditor, role="auditor")
    response = sign_in(auditor).get(LINES, {"subject_type": "user", "subject_id": researcher.pk, "verb": "role.given"})
    assert response.headers["Content-Type"] == "application/x-ndjson; charset=utf-8"
    (line,) = exported(response)
    assert line == {
        "id": event.pk,
        "at": event.at.isoformat(),
        "actor_id": auditor.pk,
        "actor": auditor.name,
        "verb": "role.given",
        "subject_type": "user",
        "subject_id": researcher.pk,
        "subject": people.reference(researcher),
        "subject_named": "Rosa Researcher",
        "institution_id": None,
        "facts": {"role": "auditor"},
        "sentence": f"{auditor.name} gave Rosa Researcher a consortium role",
    }


@pytest.mark.parametrize(("url", "file_format"), [("csv", "csv"), ("json_lines", "jsonl")])
def test_taking_the_log_along_is_on_record_without_the_name_that_was_asked_for(sign_in, auditor, url, file_format):
    events = AuditEvent.objects.filter(actor_id=auditor.pk).count()
    query = {"actor": auditor.name[:7], "date_from": "2020-01-01"}
    sign_in(auditor).get(reverse(f"audit:{url}"), query)
    event = AuditEvent.objects.get(verb="log.exported")
    assert (event.actor_id, event.subject_id) == (auditor.pk, auditor.pk)
    assert event.facts == {
        "format": file_format,
        "filters": {"actor": [auditor.pk], "date_from": "2020-01-01"},
        "events": events,
    }


def test_reading_the_log_and_asking_wrongly_write_nothing(sign_in, auditor):
    client = sign_in(auditor)
    client.get(LOG)
    client.get(CSV, {"date_from": "soon"})
    client.get(LINES, {"date_from": "soon"})
    assert not AuditEvent.objects.filter(verb="log.exported").exists()
