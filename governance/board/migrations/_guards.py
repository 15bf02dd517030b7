"""The rules of ballots as the database keeps them, for whoever speaks SQL as the site."""

BALLOT = """
CREATE FUNCTION board_check_ballot() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE state text;
BEGIN
    SELECT status INTO state FROM board_motion WHERE id = NEW.motion_id FOR SHARE;
    IF state <> 'open' THEN
        RAISE EXCEPTION 'ballot_is_open: the motion is %', state USING ERRCODE = 'check_violation';
    END IF;
    IF EXISTS (SELECT FROM board_recusal WHERE motion_id = NEW.motion_id AND member_id = NEW.voter_id) THEN
        RAISE EXCEPTION 'voter_is_not_recused' USING ERRCODE = 'check_violation';
    END IF;
    IF NOT EXISTS (SELECT FROM board_declaration WHERE motion_id = NEW.motion_id AND member_id = NEW.voter_id) THEN
        RAISE EXCEPTION 'voter_has_declared' USING ERRCODE = 'check_violation';
    END IF;
    IF EXISTS (SELECT FROM accounts_user WHERE id = NEW.voter_id AND is_superuser) THEN
        RAISE EXCEPTION 'voter_is_no_superuser' USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.number <> 1 + (SELECT count(*) FROM board_vote WHERE motion_id = NEW.motion_id AND voter_id = NEW.voter_id)
    THEN
        RAISE EXCEPTION 'ballots_are_numbered_without_gaps' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER check_ballot BEFORE INSERT ON board_vote FOR EACH ROW EXECUTE FUNCTION board_check_ballot();
"""
BALLOT_BACK = "DROP TRIGGER check_ballot ON board_vote; DROP FUNCTION board_check_ballot();"

# A decided motion never changes; its subject never does; its rule does not once somebody has voted. The end of a ballot
# moves once, by the extension, and as long as nobody has voted.
MOTION = """
CREATE FUNCTION board_check_motion() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'motions_are_kept' USING ERRCODE = 'check_violation';
    END IF;
    IF OLD.closed_at IS NOT NULL AND to_jsonb(OLD) <> to_jsonb(NEW) THEN
        RAISE EXCEPTION 'closed_motion_is_final' USING ERRCODE = 'check_violation';
    END IF;
    IF (OLD.kind, OLD.programme_id, OLD.institution_id, OLD.contribution_id, OLD.release_id, OLD.agreement_id,
        OLD.task_id, OLD.person_id, OLD.round, OLD.proposal) IS DISTINCT FROM
       (NEW.kind, NEW.programme_id, NEW.institution_id, NEW.contribution_id, NEW.release_id, NEW.agreement_id,
        NEW.task_id, NEW.person_id, NEW.round, NEW.proposal) THEN
        RAISE EXCEPTION 'question_is_fixed' USING ERRCODE = 'check_violation';
    END IF;
    IF EXISTS (SELECT FROM board_vote WHERE motion_id = OLD.id) AND (
        (OLD.electorate, OLD.quorum_percent, OLD.quorum_floor, OLD.threshold, OLD.per_institution) IS DISTINCT FROM
        (NEW.electorate, NEW.quorum_percent, NEW.quorum_floor, NEW.threshold, NEW.per_institution)
        OR OLD.closes_at IS DISTINCT FROM NEW.closes_at AND (OLD.extended_at IS NOT NULL OR NEW.extended_at IS NULL)
    ) THEN
        RAISE EXCEPTION 'rule_is_frozen_by_the_first_ballot' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER check_motion BEFORE UPDATE OR DELETE ON board_motion
    FOR EACH ROW EXECUTE FUNCTION board_check_motion();
"""
MOTION_BACK = "DROP TRIGGER check_motion ON board_motion; DROP FUNCTION board_check_motion();"
APPEND_ONLY = ["castingvote", "comment", "decision", "declaration", "minorityopinion"]
