"""Names, labels and texts of generated pages."""

from __future__ import annotations

import random
from collections.abc import Sequence

from data_recipes.synthetic.words import WORDS


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST = _words(
    "Ada Amir Ben Chen Dina Elif Femi Grace Hugo Ines Jonas Kofi Lena Mara Nils Olga Priya Quinn Rosa Sven Tariq Uma Vera Wei Yara Zoe"
)
LAST = _words(
    "Adler Bauer Costa Diaz Evans Fischer Garcia Hansen Ito Jensen Kaya Lopez Meyer Novak Okafor Park Quist Rossi Silva Tanaka Ueda Varga Weber Young Zhang"
)
CITIES = _words(
    "Aachen Bergen Cairo Dublin Essen Florence Geneva Hanoi Izmir Jakarta Krakow Lisbon Madrid Nairobi Oslo Porto Quito Riga Sofia Tallinn Utrecht Vienna Warsaw York Zagreb"
)
COUNTRIES = _words(
    "Austria Brazil Canada Denmark Egypt France Germany Hungary India Japan Kenya Mexico Norway Peru Spain"
)
MONTHS = _words("January February March April May June July August September October November December")
BRANDS = _words(
    "Northwind Bluefin Larkspur Quillon Meridian Tandem Orbital Foxglove Harbor Summit Kestrel Ironwood"
)
NAVIGATION = _words(
    "Home Projects Orders Reports Calendar Messages Team Invoices Library Customers Help Pricing"
)

ICONS = {
    "search": "M10 4a6 6 0 1 0 0 12a6 6 0 1 0 0-12M15 15l5 5",
    "close": "M6 6l12 12M18 6L6 18",
    "add": "M12 5v14M5 12h14",
    "delete": "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v6M14 11v6",
    "edit": "M4 20l1-5L16 4l4 4L9 19zM14 6l4 4",
    "download": "M12 4v11M7 11l5 5 5-5M5 20h14",
    "upload": "M12 16V5M7 9l5-5 5 5M5 20h14",
    "favourite": "M12 3l2.7 5.8 6.3.8-4.6 4.4 1.2 6.3L12 17.2 6.4 20.3l1.2-6.3L3 9.6l6.3-.8z",
    "home": "M3 11l9-7 9 7M6 9v11h12V9",
    "account": "M12 4a4 4 0 1 0 0 8a4 4 0 1 0 0-8M4 21c1-5 4-6 8-6s7 1 8 6",
    "mail": "M3 6h18v12H3zM3 7l9 7 9-7",
    "menu": "M4 6h16M4 12h16M4 18h16",
    "refresh": "M19 12a7 7 0 1 1-2-5M19 3v5h-5",
    "print": "M7 9V4h10v5M5 9h14v8h-3M5 9v8h3M8 14h8v6H8z",
    "lock": "M6 11h12v9H6zM8 11V8a4 4 0 0 1 8 0v3",
    "handle": "M9 6h.01M15 6h.01M9 12h.01M15 12h.01M9 18h.01M15 18h.01",
}
"""Paths of line drawings on a square of 24."""
LABELS = {
    "search": "Search", "add": "Add", "delete": "Delete", "edit": "Edit", "download": "Download", "upload": "Upload",
    "favourite": "Favourite", "home": "Home", "account": "Account", "mail": "Mail", "menu": "Menu", "refresh": "Refresh",
    "print": "Print", "lock": "Lock",
}  # fmt: skip
"""Names of icon buttons."""

FORMS = ("Shipping address", "Create an account", "Book a room", "New customer", "Contact us", "Register for the workshop", "Request a quote", "Report a fault")  # fmt: skip
FIELDS = ("Full name", "E-mail", "Phone", "Company", "Street", "City", "Postal code", "Date", "Subject", "Reference", "Room", "Discount code", "Website", "Guests")  # fmt: skip
SELECTS: dict[str, tuple[str, ...]] = {
    "Country": COUNTRIES,
    "Month": MONTHS,
    "Language": ("English", "French", "German", "Japanese", "Portuguese", "Spanish"),
    "Size": ("Small", "Medium", "Large", "Extra large"),
    "Priority": ("Low", "Normal", "High", "Urgent"),
    "Time zone": ("UTC", "Europe/Berlin", "America/Lima", "Asia/Tokyo", "Africa/Nairobi"),
    "Currency": ("Euro", "Dollar", "Yen", "Pound", "Krone"),
}
CHECKS = ("Remember me", "Send me the newsletter", "I accept the terms", "Gift wrap", "Express delivery", "Breakfast included", "Invoice by e-mail", "Save this address", "Quiet room", "Add insurance")  # fmt: skip
RADIOS: dict[str, tuple[str, ...]] = {
    "Payment": ("Credit card", "Bank transfer", "Cash on delivery", "Voucher"),
    "Delivery": ("Standard", "Overnight", "Pick up in store"),
    "Seat": ("Window", "Aisle", "Middle"),
    "Plan": ("Free", "Basic", "Professional", "Enterprise"),
    "Theme": ("Light", "Dark", "Follow the system"),
}
SUBMITS = ("Save", "Send", "Continue", "Submit", "Book now", "Create account", "Place order")
SECONDARY = ("Cancel", "Back", "Reset", "Save as draft", "Preview")

LISTS = {
    "files": ("Documents", "Shared files", "Attachments"),
    "people": ("Contacts", "Members", "Guests"),
    "cities": ("Destinations", "Branches"),
    "numbers": ("Invoices", "Tickets", "Orders"),
    "things": ("Products", "Wish list", "Tasks"),
}
LIST_BUTTONS = (("Add entry", "add"), ("Refresh", "refresh"), ("Export", "download"), ("Filter", "menu"), ("Print list", "print"))  # fmt: skip
ENTRY_ACTIONS = ("edit", "delete", "download", "favourite", "mail", "lock")
COLUMNS = ("Status", "City", "Month", "Amount", "Owner", "Country")
STATUSES = ("Open", "Paid", "Late", "Draft", "Closed")

MENUS: dict[str, tuple[tuple[str, str | None], ...]] = {
    "File": (("New", "Ctrl+N"), ("Open…", "Ctrl+O"), ("Save", "Ctrl+S"), ("Save as…", "Ctrl+Shift+S"), ("Export as PDF", None), ("Print…", "Ctrl+P"), ("Close", "Ctrl+W")),
    "Edit": (("Undo", "Ctrl+Z"), ("Redo", "Ctrl+Y"), ("Cut", "Ctrl+X"), ("Copy", "Ctrl+C"), ("Paste", "Ctrl+V"), ("Select all", "Ctrl+A"), ("Find…", "Ctrl+F"), ("Replace…", "Ctrl+H")),
    "View": (("Zoom in", "Ctrl+I"), ("Zoom out", "Ctrl+Shift+I"), ("Full screen", "F11"), ("Ruler", None), ("Sidebar", "F9"), ("Status bar", None)),
    "Insert": (("Image…", None), ("Table…", "Ctrl+F12"), ("Link…", "Ctrl+K"), ("Comment", "Ctrl+Alt+C"), ("Footnote", None), ("Page break", "Ctrl+Enter")),
    "Format": (("Bold", "Ctrl+B"), ("Italic", "Ctrl+Shift+Y"), ("Underline", "Ctrl+U"), ("Clear formatting", "Ctrl+M"), ("Bullets", "Shift+F12"), ("Numbering", "F12")),
}  # fmt: skip
"""Entries of a menu and their keyboard shortcuts."""
CHECKABLE = ("Ruler", "Sidebar", "Status bar", "Bold", "Italic", "Underline")

SECTIONS = ("Account", "Appearance", "Notifications", "Privacy", "Sound", "Network", "Storage", "Keyboard")
TABS = ("General", "Advanced", "Shortcuts", "History")
SWITCHES = ("Dark mode", "Wi-Fi", "Bluetooth", "Location", "Auto-save", "Spell check", "Backups", "Night light", "Do not disturb", "Sync contacts")  # fmt: skip
SLIDERS = ("Volume", "Brightness", "Contrast", "Font size", "Microphone")
DIALOGS = (
    ("Delete this entry?", "It cannot be restored afterwards.", ("Keep it", "Delete for good")),
    ("Unsaved changes", "Your changes will be lost if you leave this page.", ("Stay here", "Leave page")),
    ("Sign in", "Please enter your data to continue.", ("Not now", "Sign in")),
    ("Share link", "Anyone with the link can view this document.", ("Dismiss dialog", "Copy link")),
    ("Update available", "Version {n} can be installed now.", ("Later", "Install update")),
    ("Rename", "Choose a new name for the selected item.", ("Abort", "Rename item")),
)
NOTES = ("Your changes were saved.", "Connection restored.", "{n} new messages.", "Upload complete.")
BUSY = ("Loading…", "Please wait…", "Fetching results…", "Saving…")


def things(rng: random.Random, kind: str, count: int) -> list[str]:
    """Different titles of entries; `numbers` are consecutive."""
    if kind == "numbers":
        first, word = rng.randrange(100, 9000), rng.choice(("Invoice", "Ticket", "Order"))
        return [f"{word} {first + i}" for i in range(count)]
    made: dict[str, None] = {}
    while len(made) < count:
        made[_thing(rng, kind)] = None
    return list(made)


def person(rng: random.Random) -> str:
    return f"{rng.choice(FIRST)} {rng.choice(LAST)}"


def sentence(rng: random.Random, words: int) -> str:
    """Words that mean nothing together; a text to look past."""
    text = " ".join(rng.choices(WORDS, k=words))
    return f"{text.capitalize()}."


def field_value(rng: random.Random, label: str) -> str:
    """What one may write into a field."""
    name = person(rng)
    return {
        "Full name": name,
        "E-mail": f"{name.split()[0].lower()}@{rng.choice(BRANDS).lower()}.example",
        "Phone": f"0{rng.randrange(100, 999)} {rng.randrange(10**5, 10**6)}",
        "Company": f"{rng.choice(BRANDS)} {rng.choice(('Ltd', 'GmbH', 'Inc', 'SA'))}",
        "Street": f"{rng.randrange(1, 200)} {rng.choice(WORDS).capitalize()} Street",
        "City": rng.choice(CITIES),
        "Postal code": str(rng.randrange(10000, 99999)),
        "Date": f"{rng.randrange(1, 29)} {rng.choice(MONTHS)} {rng.randrange(2024, 2032)}",
        "Website": f"www.{rng.choice(WORDS)}.example",
        "Guests": str(rng.randrange(1, 40)),
        "Room": str(rng.randrange(100, 999)),
    }.get(label) or f"{rng.choice(WORDS).capitalize()} {rng.randrange(10, 9999)}"


def some(rng: random.Random, of: Sequence[str], count: int) -> list[str]:
    """Different ones, in random order."""
    return rng.sample(list(of), min(count, len(of)))


def _thing(rng: random.Random, kind: str) -> str:
    if kind == "people":
        return person(rng)
    if kind == "cities":
        return f"{rng.choice(CITIES)} {rng.choice(('North', 'South', 'Central', 'Harbour', 'Airport'))}"
    if kind == "files":
        ending = rng.choice(("pdf", "docx", "png", "csv", "zip", "txt"))
        return f"{rng.choice(WORDS)}_{rng.randrange(2, 99)}.{ending}"
    return f"{rng.choice(WORDS).capitalize()} {rng.choice(WORDS)}"
