"""Sentences to judge: captions as agencies write them, and what should not be in one.

They were written beside the filters: what these find in them is a check of forms, and no rate of the field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

IN_LANGUAGES: Mapping[str, Sequence[str]] = {
    "en": (
        "A young woman reading a newspaper on a bench in the park",
        "Close-up of fresh strawberries in a wooden bowl on a white table",
        "Aerial view of a container ship leaving the harbour at sunset",
        "Two children building a sand castle on the beach in summer",
        "An old stone bridge over a river surrounded by autumn trees",
        "Businessman shaking hands with a colleague in a modern office",
    ),
    "de": (
        "Eine junge Frau liest auf einer Bank im Park die Zeitung",
        "Frische Erdbeeren in einer Holzschale auf einem weißen Tisch",
        "Eine alte Steinbrücke über einem Fluss mit herbstlichen Bäumen",
    ),
    "fr": (
        "Une jeune femme lit un journal sur un banc dans le parc",
        "Des fraises fraîches dans un bol en bois sur une table blanche",
        "Un vieux pont de pierre au-dessus d'une rivière en automne",
    ),
    "es": (
        "Una mujer joven lee un periódico en un banco del parque",
        "Fresas frescas en un cuenco de madera sobre una mesa blanca",
        "Un viejo puente de piedra sobre un río rodeado de árboles",
    ),
    "it": (
        "Una giovane donna legge il giornale su una panchina nel parco",
        "Fragole fresche in una ciotola di legno su un tavolo bianco",
        "Un vecchio ponte di pietra sopra un fiume circondato da alberi",
    ),
    "pt": (
        "Uma mulher jovem lê um jornal num banco do parque",
        "Morangos frescos numa tigela de madeira sobre uma mesa branca",
        "Uma velha ponte de pedra sobre um rio rodeado de árvores",
    ),
    "nl": (
        "Een jonge vrouw leest een krant op een bankje in het park",
        "Verse aardbeien in een houten schaal op een witte tafel",
        "Een oude stenen brug over een rivier met herfstbomen eromheen",
    ),
    "pl": (
        "Młoda kobieta czyta gazetę na ławce w parku miejskim",
        "Świeże truskawki w drewnianej misce na białym stole kuchennym",
        "Stary kamienny most nad rzeką otoczony jesiennymi drzewami w słońcu",
    ),
    "ru": (
        "Молодая женщина читает газету на скамейке в городском парке",
        "Свежая клубника в деревянной миске на белом кухонном столе",
        "Старый каменный мост через реку среди осенних деревьев",
    ),
    "ja": (
        "公園のベンチで新聞を読む若い女性",
        "白いテーブルの上の木の器に入った新鮮ないちご",
        "秋の木々に囲まれた川にかかる古い石橋",
    ),
    "zh": (
        "一位年轻女子坐在公园的长椅上看报纸",
        "白色桌子上的木碗里装着新鲜的草莓",
        "秋天树木环绕的河上有一座古老的石桥",
    ),
    "sv": (
        "En ung kvinna läser en tidning på en bänk i parken",
        "Färska jordgubbar i en träskål på ett vitt bord",
        "En gammal stenbro över en flod omgiven av träd på hösten",
    ),
}
CLEAN: Sequence[str] = (
    *IN_LANGUAGES["en"],
    "Vintage car from 1957 on display, photographed on 2024-05-17",
    "Boeing 747-400 landing at 12:30:45 on runway 27L",
    "Set of 1,200 vector icons, 64 x 64 px, version 2.10.3.1",
    "Seamless pattern 4500 x 3000, image 1234567890123 of the series",
    "Soldiers in the trenches, 1914-1918, archive number 555-12",
    "Route 66 sign, mile 2448, elevation 1,909 m (6,263 ft)",
    "Barcode 4006381333931 on a cardboard box, ISBN 978-3-16-148410-0",
    "Price tag of $1,299.99 with 50% off, until 31/12/2023",
    "Score 21-19, 21-15 on a scoreboard at the badminton finals",
    "Coordinates 48.8584 N, 2.2945 E: the Eiffel Tower at dusk",
    "Gears of type 12-34-5678 laid out on a workbench",
    "Chemical structure of caffeine, CAS 58-08-2, molar mass 194.19",
    "Total solar eclipse seen from Mazatlan, 8 April 2024, 11:07",
    "The year 2000, 2001, 2002 and 2003 in colourful balloons",
)
PERSONAL: Sequence[tuple[str, str]] = (
    ("Portrait of Anna, write to anna.smith+foto@example.co.uk for prints", "email"),
    ("contact: jan_kowalski@poczta.example.pl", "email"),
    ("Call +49 (0)30 901820 for the full series", "phone"),
    ("Studio in Boston, (617) 555-0134, open daily", "phone"),
    ("Booking under 212-555-0187", "phone"),
    ("tel. 030 1234567, Berlin", "phone"),
    ("WhatsApp: 0171 5550123", "phone"),
    ("+33 1 23 45 67 89 on a business card", "phone"),
    ("Pay to DE89 3704 0044 0532 0130 00 please", "iban"),
    ("GB82WEST12345698765432 on an invoice", "iban"),
    ("Card 4111 1111 1111 1111 lies on the table", "card"),
    ("5555-5555-5555-4444 embossed on plastic", "card"),
    ("amex 378282246310005 in a wallet", "card"),
    ("Server rack at 192.168.17.34", "ip"),
    ("Router with 2001:db8:85a3:0:0:8a2e:370:7334 on its label", "ip"),
    ("Form with the number 536-22-8471 filled in", "national_id"),
    ("DNI 12345678Z visible", "national_id"),
    ("codice fiscale RSSMRA85T10A562S on a card", "national_id"),
    ("henkilötunnus 131052-308T", "national_id"),
    ("CPF 529.982.247-25 on the contract", "national_id"),
    ("Securité sociale 1 85 05 78 006 084 91", "national_id"),
)
"""Numbers of books and test suites; those of telephones belong to nobody. Each with what it holds."""
THINGS: Sequence[str] = (
    *(
        "bridge",
        "container ship",
        "strawberry",
        "mountain lake",
        "newspaper",
        "cathedral",
        "tiger",
        "airplane",
    ),
    *("violin", "volcano", "wheat field", "castle", "tractor", "pizza", "lighthouse", "chess board", "owl"),
)
"""None of them clothes."""
SPAM: Sequence[tuple[str, Sequence[str]]] = (
    ("buy buy buy cheap shoes buy buy now buy", ()),
    ("dog, dogs, puppy, pet, animal, cute, fur, canine, friend, happy", ()),
    ("best shoes online best shoes online best shoes online best shoes online", ()),
    ("red dress | red dress | red dress | red dress | red dress", ()),
    (
        "Sunset on the beach",
        ("sunset", "Sunset", "sunsets", "SUNSET", "beach", "Beach", "beaches", "beach sunset"),
    ),
    ("A kitchen", ("kitchen", "kitchens", "Kitchen", "kitchen.", "kitchen!", "cook")),
    ("wallpaper/background/texture/pattern/abstract/design/art/modern", ()),
    ("nature nature nature nature landscape nature nature nature", ()),
)
"""Captions with keywords."""
