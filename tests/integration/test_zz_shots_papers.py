from pathlib import Path

from django.urls import reverse
from django.utils import timezone

from portal.agreements import pdf, services, shipped
from tests import factories
from tests.integration.test_receipts import *  # noqa

OUT=Path("/tmp/shots")
def test_shots(client, sign_in, programme):
    inst=factories.admitted_institution("Volta Teaching Hospital", country="GH", local_name="مستشفى فولتا")
    o=factories.person_of(inst,"signing_official"); o.name="Łukasz Ωmega"; o.save()
    row=services.create_agreement(programme, slug="dua", title="Data-use agreement", summary="What an institution may contribute, what the consortium may do with it, and what neither may do.", months_valid=24, by=None, now=timezone.now())
    services.publish(row, **shipped.entry("dua-1").fields(), change_note="The first version.", by=None, now=timezone.now())
    case=factories.signed_case(factories.sent_case(inst,row,variables={"institution":"Volta Teaching Hospital · مستشفى فولتا","kinds":"weights; synthetic images","use_codes":"HMB (health or medical or biomedical research, DUO:0000006)","purposes":"training and evaluation","transfer_limits":"none","ethics_reference":"CHRPE/AP/214/26"}))
    services.publish(row, **shipped.entry("dua-2").fields(), change_note=shipped.DUA_2_CHANGE_NOTE, by=None, now=timezone.now())
    pi=factories.person_of(inst)
    a=lambda n,*m: reverse("agreements:"+n,args=["retina","dua",*m])
    pages={"read":client.get(a("read",2)),"read_es":client.get(a("read",1)+"?language=es"),"read_signed":sign_in(pi).get(a("read",2)),"changes":client.get(a("changes",2,1)),"receipt":client.get(case.receipt_url),"receipt_party":sign_in(pi).get(case.receipt_url)}
    for n,p in pages.items():
        (OUT/f"{n}.html").write_text(p.text.replace('"/static/','"file:///work/agreements/portal/static/'))
    (OUT/"r.pdf").write_bytes(pdf.receipt(case))
