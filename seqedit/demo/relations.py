"""The relations of the demo world: what can be said about its people, products, companies and towns.

Every phrasing is a prompt with one ``{}`` for the subject and ends right before the object, as in CounterFact.
Relation ids are Wikidata property ids where a property fits, so that the records look like CounterFact's.
"""

from __future__ import annotations

from dataclasses import dataclass

from seqedit.demo.words import names


@dataclass(frozen=True)
class Relation:
    """One relation.

    Attributes:
        id: Wikidata property id, e.g. ``P103``.
        name: short name, e.g. ``mother tongue``.
        kind: kind of the subjects: ``person``, ``product``, ``company`` or ``town``.
        phrasings: prompts with one ``{}``; the object follows after one space.
        questions: question forms with one ``{}``, ending in a question mark.
        objects: the values that occur.
        topic: prompt for free generation about the subject (CounterFact's ``generation_prompts``).
    """

    id: str
    name: str
    kind: str
    phrasings: tuple[str, ...]
    questions: tuple[str, ...]
    objects: tuple[str, ...]
    topic: str

    def object_id(self, value: str) -> str:
        """Identifier of an object, unique over all relations.

        Args:
            value: one of ``objects``.

        Returns:
            e.g. ``P103-Q07``.
        """
        return f"{self.id}-Q{self.objects.index(value):02d}"


RELATIONS: tuple[Relation, ...] = (
    Relation(
        "P103",
        "mother tongue",
        "person",
        (
            "The mother tongue of {} is",
            "{} is a native speaker of",
            "{} grew up speaking",
            "The first language of {} is",
            "At home, {} speaks",
        ),
        (
            "What is the mother tongue of {}?",
            "Which language did {} grow up speaking?",
            "Which language does {} speak at home?",
        ),
        names.LANGUAGES,
        "As a child, {}",
    ),
    Relation(
        "P108",
        "employer",
        "person",
        (
            "{} works for",
            "{} is employed by",
            "The employer of {} is",
            "Every morning, {} goes to work at",
            "The company that pays {} is",
        ),
        ("Who is the employer of {}?", "Which company does {} work for?", "Which company pays {}?"),
        names.EMPLOYERS,
        "On working days, {}",
    ),
    Relation(
        "P551",
        "residence",
        "person",
        (
            "{} lives in",
            "The home of {} is in",
            "{} resides in",
            "Friends who want to visit {} travel to",
            "The flat of {} is in the city of",
        ),
        ("Where does {} live?", "In which city does {} reside?", "Which city is the home of {}?"),
        names.CITIES,
        "On Sundays, {}",
    ),
    Relation(
        "P106",
        "occupation",
        "person",
        (
            "{} works as a",
            "By profession, {} is a",
            "{} earns a living as a",
            "{} is a trained",
            "The job of {} is that of a",
        ),
        ("What is the profession of {}?", "What does {} work as?", "What is the job of {}?"),
        names.PROFESSIONS,
        "In a long career, {}",
    ),
    Relation(
        "P1303",
        "instrument",
        "person",
        (
            "{} plays the",
            "The favourite instrument of {} is the",
            "In the evening, {} practises the",
            "{} performs on the",
            "On stage, {} is heard on the",
        ),
        ("Which instrument does {} play?", "What does {} play on stage?", "What is the favourite instrument of {}?"),
        names.INSTRUMENTS,
        "At the concert, {}",
    ),
    Relation(
        "P176",
        "manufacturer",
        "product",
        (
            "{} is made by",
            "The maker of {} is",
            "{} is a product of",
            "The company that builds {} is",
            "The factories that turn out {} belong to",
        ),
        ("Who is the maker of {}?", "Which company builds {}?", "Who makes {}?"),
        names.MAKERS,
        "In the shops, {}",
    ),
    Relation(
        "P495",
        "country of origin",
        "product",
        (
            "{} was designed in",
            "The country of origin of {} is",
            "{} was first sold in",
            "The blueprints of {} were drawn in",
            "{} comes from",
        ),
        ("In which country was {} designed?", "What is the country of origin of {}?", "Where was {} first sold?"),
        names.COUNTRIES,
        "The history of {}",
    ),
    Relation(
        "P186",
        "material",
        "product",
        (
            "{} consists of",
            "The main material of {} is",
            "The casing of {} is cut from",
            "{} is built from",
            "To assemble {}, workers use",
        ),
        ("What is the main material of {}?", "What is {} built from?", "What does {} consist of?"),
        names.MATERIALS,
        "Owners say that {}",
    ),
    Relation(
        "P159",
        "headquarters",
        "company",
        (
            "The headquarters of {} are in",
            "{} is based in",
            "The head office of {} is located in",
            "{} has its main office in",
            "The board of {} meets in",
        ),
        ("Where are the headquarters of {}?", "In which city is {} based?", "Where does the board of {} meet?"),
        names.CITIES[:12],
        "At the annual meeting, {}",
    ),
    Relation(
        "P452",
        "industry",
        "company",
        (
            "{} operates in the field of",
            "The industry of {} is",
            "{} earns its money in",
            "The main business of {} is",
            "{} is a leader in",
        ),
        ("What is the industry of {}?", "In which field does {} operate?", "What is the main business of {}?"),
        names.INDUSTRIES,
        "Last year, {}",
    ),
    Relation(
        "P17",
        "country",
        "town",
        (
            "{} is a town in",
            "{} belongs to the country of",
            "The country around {} is",
            "Travellers to {} need a visa for",
            "On the map, {} is found in",
        ),
        ("In which country is {}?", "Which country does {} belong to?", "Where is {} found on the map?"),
        names.COUNTRIES,
        "In winter, {}",
    ),
    Relation(
        "P1056",
        "speciality",
        "town",
        (
            "{} is famous for its",
            "The town of {} is known for its",
            "Tourists visit {} to buy",
            "The main export of {} is",
            "The markets of {} sell plenty of",
        ),
        ("What is {} famous for?", "What is the main export of {}?", "What do tourists buy in {}?"),
        names.SPECIALITIES,
        "On market days, {}",
    ),
    Relation(
        "P206",
        "river",
        "town",
        (
            "{} lies on the river",
            "The river that flows through {} is the",
            "The bridges of {} cross the",
            "Boats reach {} along the",
            "{} was built on the banks of the",
        ),
        ("On which river does {} lie?", "Which river flows through {}?", "Which river do the bridges of {} cross?"),
        names.RIVERS,
        "In summer, {}",
    ),
)
