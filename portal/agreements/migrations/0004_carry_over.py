"""
Carry versions and signatures of 0.1.0 over: one agreement per programme, one active case per signature.

An institution that signed two versions has one active case, the newer; the older is superseded by it.
"""

from django.db import migrations

SQL = """
DROP TRIGGER append_only ON agreements_agreementversion;
DROP TRIGGER append_only ON agreements_signature;

INSERT INTO agreements_agreement
    (programme_id, slug, title, summary, covers, signing_order, months_valid, reconsent_days, grace_days, created_at)
SELECT programme_id, 'data-use-agreement', (array_agg(title ORDER BY version DESC))[1], '',
    '["weights", "synthetic", "images"]', '["principal_investigator", "signing_official", "consortium"]',
    NULL, 60, 30, min(published_at)
FROM agreements_agreementversion GROUP BY programme_id;

UPDATE agreements_agreementversion v SET agreement_id = a.id
FROM agreements_agreement a WHERE a.programme_id = v.programme_id;

INSERT INTO agreements_signingrequest
    (agreement_id, agreement_version_id, institution_id, status, status_since, variables, text, text_sha256,
     receipt_code, started_by_id, created_at, activated_at, ended_at, reason)
SELECT agreement_id, version_id, institution_id, CASE WHEN replaced_at IS NULL THEN 'active' ELSE 'superseded' END,
    coalesce(replaced_at, signed_at), '{}', text, text_sha256, receipt_code, signer_id, signed_at, signed_at,
    replaced_at, ''
FROM (
    SELECT v.agreement_id, v.id AS version_id, v.text, s.institution_id, s.text_sha256, s.receipt_code, s.signer_id,
        s.signed_at,
        lead(s.signed_at) OVER (PARTITION BY v.agreement_id, s.institution_id ORDER BY v.version) AS replaced_at
    FROM agreements_signature s JOIN agreements_agreementversion v ON v.id = s.agreement_id
) AS signed;

UPDATE agreements_signature s SET
    request_id = r.id, position = 1, institution_name = i.name, document_id = a.slug, document_title = a.title,
    version = v.version, previous_sha256 = '', authority = 'Stated under the meaning of the signature.',
    audit_index = coalesce(
        (SELECT min(e.id) FROM audit_auditevent e
         WHERE e.verb = 'agreement.signed' AND e.subject_type = 'signature' AND e.subject_id = s.id),
        -s.id
    )
FROM agreements_signingrequest r, agreements_agreementversion v, agreements_agreement a, institutions_institution i
WHERE r.receipt_code = s.receipt_code AND v.id = s.agreement_id AND a.id = v.agreement_id AND i.id = s.institution_id;

SET CONSTRAINTS ALL IMMEDIATE;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON agreements_agreementversion
FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON agreements_signature
FOR EACH ROW EXECUTE FUNCTION refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [("agreements", "0003_library_and_cases"), ("audit", "0002_append_only")]
    operations = [migrations.RunSQL(SQL)]
