"""
What the database itself refuses about agreements, whoever speaks SQL to it. Used by 0005_guards.

The functions name their search_path: otherwise a temporary table of the same name would stand before the real one.
"""

from django.db import migrations

# A hash that is not the text's cannot be stored.
HASHES = """
ALTER TABLE agreements_agreementversion ADD CONSTRAINT agreement_sha256_of_text
    CHECK (sha256 = encode(sha256(convert_to(text, 'UTF8')), 'hex'));
ALTER TABLE agreements_agreementtranslation ADD CONSTRAINT agreement_translation_sha256_of_text
    CHECK (sha256 = encode(sha256(convert_to(text, 'UTF8')), 'hex'));
ALTER TABLE agreements_signingrequest ADD CONSTRAINT request_sha256_of_text
    CHECK (text_sha256 = encode(sha256(convert_to(text, 'UTF8')), 'hex'));
"""

# A case's version is one of its agreement; a signature's hash is its case's. Both are foreign keys of two columns.
PAIRS = """
ALTER TABLE agreements_agreementversion ADD CONSTRAINT agreement_version_pair UNIQUE (id, agreement_id);
ALTER TABLE agreements_signingrequest ADD CONSTRAINT request_version_of_agreement
    FOREIGN KEY (agreement_version_id, agreement_id) REFERENCES agreements_agreementversion (id, agreement_id);
ALTER TABLE agreements_signingrequest ADD CONSTRAINT request_text_pair UNIQUE (id, text_sha256);
ALTER TABLE agreements_signature ADD CONSTRAINT signature_of_this_text
    FOREIGN KEY (request_id, text_sha256) REFERENCES agreements_signingrequest (id, text_sha256);
"""

TRANSLATIONS = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON agreements_agreementtranslation
FOR EACH ROW EXECUTE FUNCTION refuse_change();
"""

# A case that has ended does not change; one that bears a signature changes only in how its life goes on.
REQUESTS = """
CREATE FUNCTION agreements_guard_request() RETURNS trigger LANGUAGE plpgsql
    SET search_path = public, pg_temp AS $$
DECLARE
    before jsonb := to_jsonb(OLD);
    after jsonb;
    life text[] := ARRAY['status', 'status_since', 'activated_at', 'ended_at', 'reason'];
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'a signing case is never deleted' USING ERRCODE = 'restrict_violation';
    END IF;
    IF TG_OP = 'INSERT' THEN
        IF NEW.status <> 'draft' THEN
            RAISE EXCEPTION 'a signing case begins as a draft' USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN NEW;
    END IF;
    after := to_jsonb(NEW);
    IF before = after THEN
        RETURN NEW;
    END IF;
    IF OLD.ended_at IS NOT NULL THEN
        RAISE EXCEPTION 'a signing case that has ended does not change' USING ERRCODE = 'restrict_violation';
    END IF;
    IF (before - life) <> (after - life)
            AND EXISTS (SELECT 1 FROM agreements_signature WHERE request_id = OLD.id) THEN
        RAISE EXCEPTION 'what was signed does not change' USING ERRCODE = 'restrict_violation';
    END IF;
    IF OLD.activated_at IS NOT NULL AND OLD.activated_at IS DISTINCT FROM NEW.activated_at THEN
        RAISE EXCEPTION 'since when an agreement is in force does not change' USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.status = 'draft' AND OLD.status <> 'draft' OR OLD.status = 'active' AND NEW.status = 'signing' THEN
        RAISE EXCEPTION 'a signing case does not go back' USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.status = 'active' AND OLD.status <> 'active' AND (
        SELECT count(*) FROM agreements_signature WHERE request_id = OLD.id
    ) <> (SELECT jsonb_array_length(signing_order) FROM agreements_agreement WHERE id = OLD.agreement_id) THEN
        RAISE EXCEPTION 'an agreement is in force once everybody has signed' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER guard_request BEFORE INSERT OR UPDATE OR DELETE ON agreements_signingrequest
FOR EACH ROW EXECUTE FUNCTION agreements_guard_request();
"""

# What an agreement demands of its signers does not change under them.
AGREEMENTS = """
CREATE FUNCTION agreements_guard_agreement() RETURNS trigger LANGUAGE plpgsql
    SET search_path = public, pg_temp AS $$
BEGIN
    IF NEW IS DISTINCT FROM OLD AND EXISTS (SELECT 1 FROM agreements_signingrequest WHERE agreement_id = OLD.id) THEN
        RAISE EXCEPTION 'an agreement that is being signed does not change' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER guard_agreement BEFORE UPDATE ON agreements_agreement
FOR EACH ROW EXECUTE FUNCTION agreements_guard_agreement();
"""

COVERED = """
CREATE FUNCTION agreements_guard_covered() RETURNS trigger LANGUAGE plpgsql
    SET search_path = public, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM agreements_signature
               WHERE request_id IN (CASE WHEN TG_OP = 'INSERT' THEN NULL ELSE OLD.request_id END,
                                    CASE WHEN TG_OP = 'DELETE' THEN NULL ELSE NEW.request_id END)) THEN
        RAISE EXCEPTION 'the hospitals under a signed agreement do not change' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END
$$;
CREATE TRIGGER guard_covered BEFORE INSERT OR UPDATE OR DELETE ON agreements_coveredinstitution
FOR EACH ROW EXECUTE FUNCTION agreements_guard_covered();
"""

# A signature is added only to a case that is being signed, and only as the next one of its chain.
SIGNATURES = """
CREATE FUNCTION agreements_guard_signature() RETURNS trigger LANGUAGE plpgsql
    SET search_path = public, pg_temp AS $$
DECLARE
    state text;
    signed bigint;
BEGIN
    SELECT status INTO state FROM agreements_signingrequest WHERE id = NEW.request_id;
    SELECT count(*) INTO signed FROM agreements_signature WHERE request_id = NEW.request_id;
    IF state IS DISTINCT FROM 'signing' OR NEW.position <> signed + 1 THEN
        RAISE EXCEPTION 'a signature belongs at the end of a case that is being signed'
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER guard_signature BEFORE INSERT ON agreements_signature
FOR EACH ROW EXECUTE FUNCTION agreements_guard_signature();
"""

GUARDS = (HASHES, PAIRS, TRANSLATIONS, AGREEMENTS, REQUESTS, COVERED, SIGNATURES)
OPERATIONS = [migrations.RunSQL(sql) for sql in GUARDS]
