from django.db import migrations

# A contribution belongs to one programme, and so do the corpora that hold its images.
SQL = """
CREATE FUNCTION corpora_check_part() RETURNS trigger LANGUAGE plpgsql
    SET search_path = public, pg_temp AS $$
BEGIN
    IF NEW.contribution_id IS NOT NULL AND (
        SELECT programme_id FROM contributions_contribution WHERE id = NEW.contribution_id
    ) IS DISTINCT FROM (SELECT programme_id FROM corpora_corpus WHERE id = NEW.corpus_id) THEN
        RAISE EXCEPTION 'corpus_part_of_one_programme' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER check_part BEFORE INSERT OR UPDATE ON corpora_corpuspart
FOR EACH ROW EXECUTE FUNCTION corpora_check_part();
"""
BACK = "DROP TRIGGER check_part ON corpora_corpuspart; DROP FUNCTION corpora_check_part();"


class Migration(migrations.Migration):
    dependencies = [("corpora", "0001_initial")]
    operations = [migrations.RunSQL(SQL, BACK)]
