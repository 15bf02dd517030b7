"""
What the database itself does for the Merkle tree over the log, whoever speaks SQL to it. Used by 0005_tree_triggers.

The functions name their search_path: otherwise a temporary table of the same name would stand before the real one.
Those that write the tables which the site may only read run as the owner (SECURITY DEFINER).
"""

from django.db import migrations

# The line of an event: these bytes are exported, and hashed they are its leaf. A migration that changes the columns
# of the log must keep every line as it is; tests/integration/test_log_tree.py holds one by equality.
LINE = """
CREATE FUNCTION audit_event_line(event audit_auditevent) RETURNS text LANGUAGE sql STABLE
    SET search_path = public, pg_temp AS $$
    SELECT jsonb_build_object(
        'id', event.id,
        'at', to_char(event.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'actor_id', event.actor_id,
        'verb', event.verb,
        'subject_type', event.subject_type,
        'subject_id', event.subject_id,
        'subject', event.subject,
        'institution_id', event.institution_id,
        'facts', event.facts,
        'nonce', event.nonce
    )::text
$$;
CREATE FUNCTION audit_leaf_hash(event audit_auditevent) RETURNS bytea LANGUAGE sql STABLE
    SET search_path = public, pg_temp AS $$
    SELECT sha256('\\x00'::bytea || convert_to(audit_event_line(event), 'UTF8'))
$$;
"""

# MTH(D[first:beyond]) of RFC 6962, section 2.1, from complete subtrees, the smallest (rightmost) first. `first` must be
# a multiple of the largest power of two below the length, as in every range of that section. NULL: leaves are missing.
RANGE = """
CREATE FUNCTION audit_range_hash(first bigint, beyond bigint) RETURNS bytea LANGUAGE plpgsql STABLE
    SET search_path = public, pg_temp AS $$
DECLARE
    place bigint := beyond;
    height smallint := 0;
    part bytea;
    result bytea;
BEGIN
    IF first = beyond THEN
        RETURN sha256(''::bytea);
    END IF;
    WHILE place > first LOOP
        IF ((beyond - first) >> height) & 1 = 1 THEN
            place := place - (1::bigint << height);
            IF height = 0 THEN
                SELECT hash INTO part FROM audit_auditleaf WHERE index = place;
            ELSE
                SELECT hash INTO part FROM audit_auditnode WHERE level = height AND index = place >> height;
            END IF;
            IF part IS NULL THEN
                RETURN NULL;
            END IF;
            result := CASE WHEN result IS NULL THEN part ELSE sha256('\\x01'::bytea || part || result) END;
        END IF;
        height := height + 1;
    END LOOP;
    RETURN result;
END
$$;
"""

PENDING = """
CREATE FUNCTION audit_add_pending() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO audit_auditpending (event_id) VALUES (NEW.id);
    RETURN NULL;
END
$$;
CREATE TRIGGER add_pending AFTER INSERT ON audit_auditevent FOR EACH ROW EXECUTE FUNCTION audit_add_pending();
"""

LEAVES = """
CREATE FUNCTION audit_guard_leaf() RETURNS trigger LANGUAGE plpgsql
    SET search_path = public, pg_temp AS $$
DECLARE
    event audit_auditevent;
BEGIN
    SELECT * INTO event FROM audit_auditevent WHERE id = NEW.event_id;
    IF event.id IS NULL OR NEW.hash IS DISTINCT FROM audit_leaf_hash(event) THEN
        RAISE EXCEPTION 'the hash of a leaf is that of its event' USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.index < 0 OR NEW.index > 0 AND NOT EXISTS (SELECT 1 FROM audit_auditleaf WHERE index = NEW.index - 1) THEN
        RAISE EXCEPTION 'a leaf is added at the end of the tree' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER guard_leaf BEFORE INSERT ON audit_auditleaf FOR EACH ROW EXECUTE FUNCTION audit_guard_leaf();

CREATE FUNCTION audit_grow_tree() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp AS $$
DECLARE
    place bigint := NEW.index;
    height smallint := 0;
    own bytea := NEW.hash;
BEGIN
    DELETE FROM audit_auditpending WHERE event_id = NEW.event_id;
    WHILE place & 1 = 1 LOOP  -- the right half of a subtree, which it completes
        own := sha256('\\x01'::bytea || audit_range_hash((place - 1) << height, place << height) || own);
        place := place >> 1;
        height := height + 1;
        INSERT INTO audit_auditnode (level, index, hash) VALUES (height, place, own);
    END LOOP;
    RETURN NULL;
END
$$;
CREATE TRIGGER grow_tree AFTER INSERT ON audit_auditleaf FOR EACH ROW EXECUTE FUNCTION audit_grow_tree();
"""

CHECKPOINTS = """
CREATE FUNCTION audit_guard_checkpoint() RETURNS trigger LANGUAGE plpgsql
    SET search_path = public, pg_temp AS $$
BEGIN
    IF NEW.size < 1 OR NEW.size <= (SELECT max(size) FROM audit_checkpoint) THEN
        RAISE EXCEPTION 'a checkpoint is larger than the one before' USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.root IS DISTINCT FROM audit_range_hash(0, NEW.size)
            OR split_part(NEW.note, E'\\n', 2) <> NEW.size::text
            OR split_part(NEW.note, E'\\n', 3) <> encode(NEW.root, 'base64') THEN
        RAISE EXCEPTION 'a checkpoint states the root of the tree at its size' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER guard_checkpoint BEFORE INSERT ON audit_checkpoint
FOR EACH ROW EXECUTE FUNCTION audit_guard_checkpoint();
"""

APPEND_ONLY = "".join(
    f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION refuse_change();\n"
    for table in ("audit_auditleaf", "audit_auditnode", "audit_checkpoint")
)

# What was there before the tree waits for it like any other event. Nobody chooses the number of an event.
EXISTING = """
INSERT INTO audit_auditpending (event_id) SELECT id FROM audit_auditevent;
ALTER TABLE audit_auditevent ALTER COLUMN id SET GENERATED ALWAYS;
"""

STEPS = (LINE, RANGE, PENDING, LEAVES, CHECKPOINTS, APPEND_ONLY, EXISTING)
OPERATIONS = [migrations.RunSQL(sql) for sql in STEPS]
