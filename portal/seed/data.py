"""Who takes part in the demonstration. Every institution and person here is invented."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Site:
    """An institution of the demonstration and the state that it reaches."""

    key: str
    name: str
    country: str
    city: str
    kind: str
    state: str  # draft, withdrawn, applied, returned, declined, member (not signed), signed
    investigator: str
    profile: dict[str, Any] = field(default_factory=dict)


TRAINS: dict[str, Any] = {
    "gpu": "small", "expertise": "some",
    "weights_may_leave": "yes", "synthetic_may_leave": "yes", "images_may_leave": "no",
}  # fmt: skip
SENDS: dict[str, Any] = {"gpu": "none", "expertise": "none", "images_may_leave": "yes", "weights_may_leave": "unknown"}
ASKS: dict[str, Any] = {"gpu": "unknown", "expertise": "some"}
DESCRIBED: dict[str, Any] = {
    "population_served": "Adults with diabetes of two districts, most of them from villages.",
    "care_settings": ["screening", "clinic"], "cameras": "Topcon TRC-NW400\nRemidio FOP", "years_from": 2014,
    "years_to": 2026, "labels": ["dr", "dme"], "sex_recorded": "yes", "age_recorded": "yes",
    "ethnicity_recorded": "no", "legal_basis": "approval",
}  # fmt: skip

SITES = [
    Site("ganga", "Ganga Retina Institute", "IN", "Varanasi", "institute", "signed", "Dr Meera Nair",
         {**TRAINS, **DESCRIBED, "image_count": 48_000, "local_name": "गंगा रेटिना संस्थान",
          "ethics_reference": "IEC/2026/118"}),
    Site("galilee", "Galilee Vision Centre", "IL", "Nazareth", "hospital", "signed", "Dr Yael Barak",
         {**TRAINS, "image_count": 21_500, "ethics_reference": "HMC-26-0441"}),
    Site("yangtze", "Yangtze Eye Hospital", "CN", "Wuhan", "hospital", "signed", "Dr Lin Zhao",
         {**TRAINS, "gpu": "large", "expertise": "team", "image_count": 310_000, "local_name": "长江眼科医院"}),
    Site("savanna", "Savanna Eye Hospital", "KE", "Eldoret", "hospital", "signed", "Dr Wanjiru Kamau",
         {**SENDS, **DESCRIBED, "image_count": 12_400, "ethics_reference": "IREC/2026/77"}),
    Site("vltava", "Vltava Eye Clinic", "CZ", "Brno", "hospital", "signed", "Dr Tereza Havlová",
         {**TRAINS, "image_count": 9_800}),
    Site("thames", "Thames Screening Programme", "GB", "Reading", "screening", "signed", "Dr Alice Hartley",
         {**TRAINS, "gpu": "large", "expertise": "team", "image_count": 1_250_000}),
    Site("andes", "Andes Institute of Ophthalmology", "PE", "Arequipa", "institute", "signed", "Dr Rosa Quispe",
         {**SENDS, "image_count": 17_300}),
    Site("volta", "Volta Teaching Hospital", "GH", "Ho", "hospital", "member", "Dr Kofi Mensah",
         {**SENDS, "image_count": 6_100}),
    Site("straits", "Straits Eye Research", "SG", "Singapore", "university", "signed", "Dr Tan Wei Ling",
         {**TRAINS, "gpu": "large", "expertise": "team", "image_count": 205_000}),
    Site("prairie", "Prairie University Eye Centre", "CA", "Regina", "university", "member", "Dr Claire Bouchard",
         {**TRAINS, "image_count": 88_000}),
    Site("levante", "Levante Ophthalmology Group", "ES", "Alicante", "company", "applied", "Dr Javier Soler",
         {**TRAINS, "image_count": 15_900}),
    Site("aotearoa", "Aotearoa Diabetic Eye Screening", "NZ", "Dunedin", "screening", "applied", "Dr Aroha Ngata",
         {**ASKS, "image_count": 64_000}),
    Site("meridian", "Meridian Imaging Brokers", "CH", "Zug", "company", "declined", "Markus Frei",
         {**SENDS, "image_count": 900_000}),
    Site("mekong", "Mekong Eye Hospital", "KH", "Kampong Cham", "hospital", "returned", "Dr Sokha Chea",
         {**SENDS, **DESCRIBED, "image_count": 3_900, "local_name": "មន្ទីរពេទ្យភ្នែកមេគង្គ"}),
    Site("niger", "Niger Delta Eye Foundation", "NG", "Port Harcourt", "hospital", "draft", "Dr Amaka Obi",
         {**ASKS, "image_count": None}),
    Site("fjord", "Fjord Regional Hospital", "NO", "Bergen", "hospital", "withdrawn", "Dr Ingrid Dahl",
         {**ASKS, "image_count": 30_200}),
]  # fmt: skip

BOARD = ["Prof. Adaeze Okafor", "Prof. Henrik Lund", "Prof. Sofia Marino", "Prof. Daniel Reyes", "Dr Meera Nair"]
RETURNED_WITH = {
    "website": "Please give an address at which we can see that the hospital exists.",
    "legal_basis": "You wrote “approval”, and no reference stands below. Which committee approved it?",
    "image_count": "3 900 since 2014 seems few for two districts. Is it patients or images?",
}
REVIEWED = "The agreement covers it, every check was read, and the sheet of samples shows nothing of a patient."
RETURNED_NOTE = "Nearly complete. Three fields need another look; then the board can vote."
# What institutions have chosen to contribute.
CHOSEN = {"ganga": ["weights"], "galilee": ["weights"], "yangtze": ["weights", "synthetic"], "savanna": ["images"]}
JOINS = ("ganga", "member", "I am a doctoral student in Dr Nair's group and would like to see the runs.")
DECLINED_BECAUSE = "It would resell the photographs; the agreement lets nobody do that."
DISSENT = "A contract that forbids resale would have been enough, and few others photograph so many countries."
CONDITION = "Send the approval of your ethics committee for the years before 2019."
CONDITION_MET = "The approval of 12 March 2018 is in the folder of our application."
ON_THE_DOCKET = ("levante", "aotearoa")  # the first is tied, the ballot on the second has begun
TIED = [
    ("for", ""),
    ("against", "A company: the agreement must say first what it may sell."),
    ("for", ""),
    ("against", "I would wait for the ethics reference."),
    ("abstain", "I know neither the group nor its cameras."),
]
DISCUSSED = "Their screening covers a people that no other member photographs. The gap in our map is real."
ASKED = "Which committee approves research on the screening photographs? You left the reference empty."
INTEREST = {"organisation": "Lumen Optics", "note": "Paid advice on the design of a fundus camera since 2024."}
MEETING: dict[str, Any] = {
    "title": "December meeting",
    "place": "https://meet.demo.example/board",
    "points": ["Terms of seats that end in spring", "Dates of next year's meetings"],
}
