"""Word pools of the demo world and the making of subject names.

Subjects have at least two words, and share first and last words with each other: neither word alone tells who
or what is meant, as in real names. Some words are not ASCII, so that byte-level tokens are exercised.
"""

from __future__ import annotations

from random import Random

LANGUAGES = ("French", "Spanish", "German", "Finnish", "Turkish", "Korean", "Arabic", "Polish", "Greek", "Hindi",
             "Dutch", "Swahili", "Danish", "Hebrew", "Welsh", "Thai")
CITIES = ("Oslo", "Lisbon", "Vienna", "Prague", "Dublin", "Toronto", "Nairobi", "Geneva", "Warsaw", "Madrid",
          "Boston", "Sydney", "Athens", "Cairo", "Delhi", "Málaga", "Seoul", "Zürich")
COUNTRIES = ("Norway", "Portugal", "Austria", "Ireland", "Canada", "Kenya", "Poland", "Spain", "Greece", "Egypt",
             "India", "Japan", "Peru", "New Zealand")
PROFESSIONS = ("baker", "nurse", "painter", "carpenter", "teacher", "lawyer", "gardener", "plumber", "farmer",
               "surgeon", "librarian", "translator", "chemist", "sailor", "tailor", "detective")
INSTRUMENTS = ("piano", "violin", "flute", "guitar", "trumpet", "cello", "harp", "drums", "clarinet", "organ",
               "accordion", "double bass")
MATERIALS = ("steel", "glass", "bamboo", "leather", "copper", "wool", "rubber", "plastic", "oak", "marble",
             "silk", "clay")
INDUSTRIES = ("shipping", "banking", "mining", "insurance", "software", "printing", "catering", "fishing",
              "tourism", "textiles", "logistics", "forestry")
SPECIALITIES = ("cheese", "wine", "honey", "lace", "pottery", "carpets", "chocolate", "olive oil", "candles",
                "knives", "pearls", "tea", "cider", "clocks")
RIVERS = ("Arno", "Brenta", "Dwina", "Elva", "Fjord", "Garonne", "Lune", "Marn", "Neisse", "Orba", "Tisza", "Wye")

_COMPANY_STEMS = ("Norvane", "Halden", "Brightwell", "Corvex", "Delmar", "Estrel", "Fairmont", "Graviton", "Hexal",
                  "Ironside", "Jupiter", "Kestrel", "Lumina", "Meridian", "Nordic", "Orchid", "Pinnacle", "Quartz",
                  "Redwood", "Solaris", "Trident", "Umbra", "Vertex", "Westgate", "Zenith", "Åkerlund", "Señora",
                  "Blümel", "Cobalt", "Drifter")
_COMPANY_ENDS = ("Systems", "Industries", "Group", "Partners", "Works", "Trading", "Brothers", "Holdings")

EMPLOYERS = ("Norvane Systems", "Halden Works", "Corvex Group", "Delmar Trading", "Hexal Industries",
             "Kestrel Partners", "Lumina Systems", "Meridian Group", "Orchid Trading", "Quartz Holdings",
             "Redwood Works", "Solaris Partners", "Trident Industries", "Umbra Brothers", "Vertex Holdings",
             "Zenith Brothers")
MAKERS = ("Brightwell Works", "Estrel Industries", "Fairmont Brothers", "Graviton Systems", "Ironside Works",
          "Jupiter Trading", "Nordic Holdings", "Pinnacle Group", "Westgate Partners", "Cobalt Systems",
          "Drifter Brothers", "Blümel Industries", "Norvane Trading", "Halden Group")

_FIRST = ("Anna", "Otto", "Maria", "Peter", "Lena", "Hugo", "Clara", "Felix", "Nora", "Oscar", "Ida", "Victor",
          "Ruth", "Simon", "Edith", "Martin", "Olga", "Bruno", "Zoë", "René", "Łukasz", "Chloé", "Søren", "Inés",
          "Amir", "Leila", "Kofi", "Amara", "Ravi", "Priya", "Kenji", "Yuki", "Diego", "Carmen", "Pavel", "Irina",
          "Tomas", "Greta", "Jonas", "Helga", "Samuel", "Judith", "Arthur", "Beatrice", "Conrad", "Dorothy",
          "Edmund", "Florence", "Gilbert", "Harriet", "Ivan", "Josephine", "Leopold", "Matilda", "Nathan",
          "Ophelia", "Percy", "Rosalind", "Theodore", "Winifred")
_LAST_HEADS = ("Berg", "Hol", "Ström", "Wal", "Kirch", "Nor", "Ash", "Thorn", "Fair", "Black", "Stan", "Hart",
               "Grün", "Lind", "Ros", "Marl", "Peters", "Hender", "Whit", "Cast", "Okon", "Tana", "Morei", "Duarte",
               "Kowal", "Novot", "Ferra", "Ibarr", "Núñ", "Vasqu")
_LAST_TAILS = ("man", "son", "field", "well", "ez", "ski", "berg", "ley", "worth", "ov", "dahl", "aka")
_PRODUCT_STEMS = ("Aurora", "Falcon", "Tarvo", "Quillon", "Velora", "Pixel", "Nimbus", "Cascade", "Ember", "Glide",
                  "Harmony", "Jasper", "Kodiak", "Lyric", "Maple", "Nomad", "Opal", "Prism", "Raven", "Saffron",
                  "Tempo", "Ultra", "Vivid", "Willow", "Café", "Müsli", "Indigo", "Zephyr", "Bolt", "Dune")
_PRODUCT_ENDS = ("Prime", "Air", "Mini", "Max", "Classic", "Junior", "X20", "S7", "Deluxe", "Flex", "Nova", "Duo",
                 "Kettle", "Lamp", "Chair", "Radio", "Clock", "Bicycle", "Camera", "Stove")
_TOWN_HEADS = ("Port", "Lake", "Mount", "Saint", "Upper", "Lower", "North", "Old", "Castle", "São", "Bad", "Fort",
               "East", "Great", "Little")
_TOWN_STEMS = ("Elm", "Varn", "Dorn", "Kings", "Mill", "Hazel", "Öst", "Raven", "Stone", "Wick", "Bram", "Cler",
               "Fenn", "Gold", "Harl", "Lang", "Mar", "Nether", "Quen", "Row")
_TOWN_TAILS = ("wick", "ford", "stead", "by", "holm", "ton", "mouth", "dale")


def _combinations(rng: Random, heads: tuple[str, ...], tails: list[str], count: int) -> list[str]:
    """Draws ``count`` distinct two-part names in which heads and tails are shared about evenly."""
    out: dict[str, None] = {}
    while len(out) < count:
        for head, tail in zip(_shuffled(rng, heads, count), _shuffled(rng, tails, count), strict=True):
            if len(out) < count and head.lower() != tail.lower():
                out.setdefault(f"{head} {tail}")
    return list(out)


def _shuffled(rng: Random, words: tuple[str, ...] | list[str], count: int) -> list[str]:
    """``count`` words, every word about equally often, in random order."""
    out = [words[i % len(words)] for i in range(count)]
    rng.shuffle(out)
    return out


def subjects(rng: Random, kind: str, count: int) -> list[str]:
    """Makes distinct subject names of one kind.

    Args:
        rng: source of randomness; consumed.
        kind: ``person``, ``product``, ``company`` or ``town``.
        count: how many names.

    Returns:
        ``count`` distinct names of two words or more.

    Raises:
        KeyError: if the kind is unknown.
    """
    if kind == "company":
        # Companies that are also objects come first, so that the world knows them as subjects too.
        known = list(EMPLOYERS + MAKERS)
        rest = [f"{stem} {end}" for stem in _COMPANY_STEMS for end in _COMPANY_ENDS]
        rest = [name for name in rest if name not in known]
        rng.shuffle(rest)
        return (known + rest)[:count]
    heads, tails = {
        "person": (_FIRST, [head + tail for head in _LAST_HEADS for tail in _LAST_TAILS]),
        "product": (_PRODUCT_STEMS, list(_PRODUCT_ENDS)),
        "town": (_TOWN_HEADS, [stem + tail for stem in _TOWN_STEMS for tail in _TOWN_TAILS]),
    }[kind]
    if kind != "product":
        # About every last word is shared by three subjects.
        rng.shuffle(tails)
        tails = tails[: max(1, count // 3)]
    return _combinations(rng, heads, tails, count)
