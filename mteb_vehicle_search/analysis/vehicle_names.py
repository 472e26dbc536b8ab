"""The kinds of vehicle that a caption names: words and their senses, without a model.

What counts, where people differ:

- A vehicle carries people or loads. Skateboards, skates, skis, surfboards, parachutes, wheelchairs, lifts and
  fairground rides are none here, neither are toys, models, and what only looks like a vehicle.
- A place, a part or an outfit names no vehicle: bus stop, train tracks, parking lot, car seat, bike helmet.
- A rider or a verb names the vehicle: biker, cycling, kayaking, sledding, snowmobiling.
- A bike is a bicycle, unless the caption also names a motorcycle. A scooter is a kind of its own: captions seldom say
  whether it has a motor. ATVs, karts, golf carts, snowmobiles, jet skis and Segways are small motor vehicles.

`README.md` beside this file says how often that is right on real captions.
"""

from __future__ import annotations

import re

_BIKE = r"(?:motor ?cycle|moto-?cross|dirt bike|motor ?bike|bike|biker|biking|bicycle|cyclist|cycling|bmx)"
_RAIL = r"(?:train|rail ?road|railway|rail|subway|metro|tram|trolley)"
_ANY = (
    r"(?:race ?cars?|police cars?|cars?|(?:fire ?)?trucks?|fire ?engines?|trains?|(?:sail)?boats?|ships?"
    r"|(?:air)?planes?|aircraft|helicopters?|bus(?:es)?|vans?|jeeps?|motor ?cycles?|motor ?bikes?|scooters?"
    r"|tractors?|bulldozers?|(?:lawn ?)?mowers?|vehicles?)"
)
# Other senses of the words below: taken out first. Whole words; no plural where that is a verb (a bus stops).
_NO_VEHICLE = (
    # Toys, and what looks like a vehicle.
    rf"(?:toys?|miniature|lego)[- ](?:\w+ )?{_ANY}|{_ANY} toys?|hot wheels",
    rf"(?:model|play|paper|matchbox|radio|r/?c|remote[- ]control(?:led)?)[- ]{_ANY}",
    rf"(?:play(?:s|ing)? with|resembl(?:es?|ing)|shaped like|looks? like|dressed as) "
    rf"(?:(?:an?|the|his|her|their|some) )?(?:\w+ )?{_ANY}",
    r"roller ?coaster (?:cars?|trains?)|car[- ]shaped",
    # Places, parts and outfits.
    rf"{_BIKE} (?:helmets?|racks?|shops?|stores?|paths?|lanes?|trails?|tracks?|park|ramps?|shorts|jerseys?|jackets?)",
    rf"{_BIKE} (?:gloves?|boots|outfits?|uniforms?|suits?|attire|(?:riding )?(?:gear|clothes|clothing))",
    rf"{_RAIL} (?:stations?|tracks?|stop|platforms?|depots?|terminals?|yards?|bridges?|tunnels?|lines?|workers?)",
    rf"{_RAIL} crossing(?! (?:an?|the|over|under))|subway (?:restaurants?|sandwich(?:es)?)",
    r"bus (?:stop|stations?|terminals?|shelters?|depots?|lanes?|tickets?|bench(?:es)?)|truck stop",
    r"car (?:park|wash|seats?|dealerships?|keys?|barriers?)|(?:taxi|cab) (?:stand|rank)|cabs? of",
    r"traffic (?:lights?|signals?|signs?|stop|cones?|cops?|officers?|circles?|intersections?)",
    r"rv (?:campgrounds?|parks?)|boat ?(?:houses?|dock|yards?|ramps?|shoes)|ship ?yards?|wagon wheels?",
    # Verbs, and nouns of other things.
    r"(?:bridal|dress|gown|veil|bride)(?: ?'s)? train|train of (?:\w+ ){0,3}(?:dress|gown|skirt|veil)",
    r"to train|train (?:his|her|their|(?:an? |the |some |two )?(?:\w+ )?(?:dogs?|pupp(?:y|ies)|horses?|animals?))",
    r"train for (?:an? |the |their )?(?:\w+ )?(?:race|marathon|fight|match|competition)",
    r"(?:soldiers|athletes|boxers|fighters|gymnasts|dancers|students|recruits|officers|men|women) train",
    r"vans? (?:gogh|halen|shoes?|sneakers?)|caravans? of (?:camels?|people|elephants)",
    r"(?:hand|wood|block|smoothing) planes?|planes? (?:of|a|the) (?:\w+ )?(?:wood|wooden|board|plank|door|glass|ice)",
    r"cranes? (?:his|her|their|its|neck|birds?|flying)|(?:paper|origami|whooping|white|sandhill) cranes?",
    r"(?:knit|knitted|wool|woolen|woollen|woven|crocheted) toboggans?|toboggan (?:hats?|caps?)",
    r"sail(?:s|ing)? (?:through|over|off|across|in|into) (?:the )?air|rowing machines?",
    r"pick-?ups? (?:games?|lines?|basketball|soccer)|semi-(?!trailer|truck)\w+",
    r"semi (?:circles?|circular|formal|nude|naked|finals?)|(?:campus|college|university|school) quads?",
    r"double[- ]decker (?:sandwich(?:es)?|burgers?)",
)
# Words whose kind the caption tells elsewhere, and what they are replaced by.
_SENSES = (
    (r"\bcar[- ](carts?|strollers?)", r"\1"),
    (r"(\bpush(?:es|ed|ing)? (?:\w+ ){0,4})carts?\b", r"\1hand cart"),
    (r"(\b(?:drives?|drove|driving) (?:\w+ ){0,3})bikes?\b", r"\1motorbike"),
    (r"\b(?:single|three|ten|\d+)[- ]speed(?: bikes?)?\b", "bicycle"),
    (r"(\b(?:baby|babies|infants?|toddlers?|child|children) in (?:\w+ ){0,2})bugg(?:y|ies)\b", r"\1stroller"),
    (r"\bbugg(y|ies)\b(?=.*\b(?:sand|sandy|dunes?|desert)\b)", r"dune bugg\1"),
    (r"(\brac(?:es?|ing|ers?) .*)street cars?\b", r"\1car"),
)
# Patterns between commas; each may be followed by a plural ending. In this order: what a kind has matched is taken out,
# so that a dirt bike is no bicycle and a golf cart no cart.
VEHICLES = {
    "small motor vehicle": "atv, quad ?bik(?:e|er), quad ?runner, quad, all[- ]terrain vehicle, golf ?cart,"
    " golf bugg(?:y|ie), (?:go[- ]?)?kart, go[- ]?cart, karting, (?:three|four|3|4)[- ]?wheel(?:er|ing),"
    " snow ?mobil(?:e|er|ing), jet[- ]?ski(?:er|ing)?, segway, mobility scooter, bumper car",
    "motorcycle": "motor ?cycl(?:e|ist|ing), motor ?bik(?:e|er|ing),"
    " (?:dirt|speed|sports?|street) ?bik(?:e|er|ing), moto-?cross, motor[- ]cross, moped, vespa,"
    " motor(?:ized)?[- ]?scooter, side ?car",
    "bicycle": "bicycl(?:e|er|ist|ing), cycl(?:e|er|ist|ing), (?:mountain|road|racing) ?bik(?:e|er|ing), bmx,"
    " unicycl(?:e|ist|ing), tricycle",
    "scooter": "scooter",
    "bus": "(?:mini|trolley)? ?bus, double[- ]decker, (?:tour|tourist|motor) coach",
    "stroller or hand cart": "stroller, pram, push ?chair, baby carriage, baby bugg(?:y|ie), wheel ?barr(?:ow|el),"
    " hand ?truck,"
    " (?:shopping|grocery|luggage|baggage|push|hand|food|hot ?dog|ice cream|fruit|garbage) ?(?:cart|trolley)",
    "train or tram": "(?:train|railway|railroad|rail|freight|trolley|cable|tram|subway) ?cart?, box ?car,"
    r" (?:train|railway) carriage, train\b,"
    " (?:^|(?:the|of|and|or|on|some|many|several|two|three|four|large|old|freight) )trains, street ?car, tram,"
    " trolley, subway, metro, monorail, locomotive",
    "truck": "(?:fire|dump|tow)?truck, lorr(?:y|ie), pick-?up, fire ?engine, semi, semi[- ]trailer,"
    " tractor[- ]trailer, (?:18|eighteen)[- ]wheeler, ambulance",
    "tractor or machine": "tractor(?!-like), bulldozer, excavator, fork ?lift, backhoe, snow ?(?:plow|plough),"
    " crane, harvester, lawn ?mower, mower, steam ?roller",
    "van or camper": "(?:mini ?)?van, camper (?:van|trailer), rv, motor ?home, caravan, (?:police|paddy) wagon",
    "car": "(?:race|stock)? ?car, taxi, taxi ?cab, cab, jeep, convertible, sedan, limousine, limo, suv, hummer,"
    " humvee, automobile, auto, station ?wagon, hatchback, hot rod, (?:dune|race|racing) bugg(?:y|ie),"
    " four[- ]wheel drive",
    "cart or carriage": "(?:horse|ox)?cart, carriage, wagon, rickshaw, pedicab, bugg(?:y|ie), chariot, stage ?coach",
    "sled": "(?:dog|bob)? ?sled(?:der|ding)?, (?:bob)?sleigh, toboggan(?:er|ing)?, luge",
    "boat or aircraft": r"\w*boat(?:er|ing)?, (?:air|war|steam|battle)?ship, canoe(?:ing|ist|r)?, kayak(?:er|ing)?,"
    " yacht, barge, raft(?:er|ing)?, ferr(?:y|ie), gondola, catamaran, dingh(?:y|ie), vessel, submarine, sailing,"
    " rowing, rower, (?:sea|bi-?|aero|air)? ?plane, air ?craft, air ?liner, jet ?liner, (?:fighter|private) jet,"
    " helicopter, glider, (?:hot[- ])?air balloon, blimp",
}
OTHER_VEHICLE = "other vehicle"  # named, but not its kind, and no other vehicle beside it
_OTHER = "vehicle, traffic, motorist, (?:army|military) tank, trailer"
_BARE_BIKE = "bik(?:e|er|ing)"
NONE_NAMED = "none named"
KINDS = (*VEHICLES, OTHER_VEHICLE, NONE_NAMED)


def vehicles(caption: str) -> list[str]:
    """Return every kind of VEHICLES that a caption names, or [OTHER_VEHICLE] or [NONE_NAMED]."""
    _, rest = _take("|".join(_NO_VEHICLE), " ".join(caption.lower().split()))
    for pattern, clearer in _SENSES:
        rest = re.sub(pattern, clearer, rest)
    found = []
    for kind, names in VEHICLES.items():
        if kind == "bicycle" and "motorcycle" not in found:
            names = f"{names}, {_BARE_BIKE}"
        count, rest = _take(_pattern(names), rest)
        found += [kind] if count else []
    return found or [OTHER_VEHICLE if _take(_pattern(_OTHER), rest)[0] else NONE_NAMED]


def _pattern(names: str) -> str:
    return "|".join(f"(?:{name})(?:e?s)?" for name in names.split(", "))


def _take(pattern: str, text: str) -> tuple[int, str]:
    """Return how often whole words of a text match, and the text without them."""
    rest, count = re.subn(rf"\b(?:{pattern})\b", " ", text)
    return count, rest
