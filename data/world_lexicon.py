"""The words of the generated tool world: domains, verbs, argument fields and value pools. Tables only.

How data/world.py reads them: a tool is a verb applied to an object of a domain, with one to four argument fields; a
request is a frame with the verb phrase, the object phrase and one clause for each value that is given. Frozen before
anything was tuned on it (LOG.md); tests/test_world.py holds its hash.

Groups: `labelled` domains have labelled examples, `unlabelled` ones only queries, and `heldout` ones appear in no
training text at all.
"""

# verb -> phrases that ask for it; the first one is the canonical phrase, used in descriptions and names
VERBS = {
    "book": ["book", "reserve", "make a booking for"],
    "cancel": ["cancel", "call off", "drop"],
    "find": ["find", "look for", "search for"],
    "update": ["update", "change", "modify"],
    "create": ["create", "set up", "make"],
    "delete": ["delete", "remove", "get rid of"],
    "send": ["send", "forward", "pass on"],
    "rate": ["rate", "score", "give a mark to"],
    "track": ["track", "follow", "keep an eye on"],
    "schedule": ["schedule", "plan", "arrange"],
    "price": ["price", "get a quote for", "work out the cost of"],
    "order": ["order", "buy", "purchase"],
    "renew": ["renew", "extend", "prolong"],
    "start": ["start", "launch", "kick off"],
    "stop": ["stop", "halt", "end"],
    "approve": ["approve", "sign off on", "accept"],
    "register": ["register", "sign up", "enrol"],
    "report": ["report", "flag", "complain about"],
    "inspect": ["inspect", "check", "look over"],
    "repair": ["repair", "fix", "mend"],
    "share": ["share", "give access to", "hand out"],
    "archive": ["archive", "put away", "file away"],
    "measure": ["measure", "take a reading of", "gauge"],
    "assign": ["assign", "hand over", "allocate"],
}

# field -> (kind, argument names, descriptions with {o} for the object, clauses with {v} for the value)
FIELDS = {
    "person": ("person", ["customer", "client_name", "full_name"],
               ["Name of the person the {o} is for.", "Full name of the customer."],
               ["for {v}", "in the name of {v}", "on behalf of {v}"]),
    "manager": ("person", ["manager", "responsible", "owner_name"],
                ["Person in charge of the {o}.", "Who is responsible for the {o}."],
                ["with {v} in charge", "led by {v}", "under the lead of {v}"]),
    "email": ("email", ["email", "contact_email", "notify"],
              ["E-mail address for the confirmation.", "E-mail address that is told about it."],
              ["and write to {v}", "and let {v} know", "with a note to {v}"]),
    "phone": ("phone", ["phone", "phone_number", "call_back"],
              ["Phone number for questions.", "Number to call back."],
              ["reachable at {v}", "with phone {v}", "and call {v} if needed"]),
    "date": ("date", ["date", "day", "on_date"],
             ["Date of the {o}, as YYYY-MM-DD.", "Day it takes place, as YYYY-MM-DD."],
             ["on {v}", "for the day {v}", "dated {v}"]),
    "deadline": ("date", ["deadline", "due_date", "latest_date"],
                 ["Last day for the {o}, as YYYY-MM-DD.", "Date by which it must be done, as YYYY-MM-DD."],
                 ["by {v}", "no later than {v}", "before {v} is over"]),
    "time": ("time", ["time", "start_time", "at_time"],
             ["Time of day, as HH:MM.", "When the {o} starts, as HH:MM."],
             ["at {v}", "starting at {v}", "from {v} on"]),
    "city": ("city", ["city", "location", "town"],
             ["City where the {o} is.", "Town of the {o}."],
             ["in {v}", "in the city of {v}", "around {v}"]),
    "address": ("address", ["address", "delivery_address", "place"],
                ["Street and postal code of the {o}.", "Where to bring the {o}: street and zip."],
                ["at the address {v}", "delivered to {v}", "at {v}"]),
    "count": ("integer", ["count", "quantity", "number_of_items"],
              ["How many are wanted.", "Number of items."],
              ["with a quantity of {v}", "{v} times", "{v} of them"]),
    "people": ("integer", ["people", "party_size", "guests"],
               ["Number of people.", "How many people take part."],
               ["for {v} people", "for a group of {v}", "with {v} guests"]),
    "minutes": ("integer", ["minutes", "duration", "length_minutes"],
                ["Length in minutes.", "How many minutes the {o} lasts."],
                ["for {v} minutes", "lasting {v} minutes", "{v} minutes long"]),
    "budget": ("money", ["budget", "max_price", "price_limit"],
               ["Highest price in dollars.", "Most that may be spent, in dollars."],
               ["for at most ${v}", "under ${v}", "with a budget of ${v}"]),
    "amount": ("money", ["amount", "sum", "total"],
               ["Amount in dollars.", "Sum of money in dollars."],
               ["of ${v}", "worth ${v}", "with an amount of ${v}"]),
    "percent": ("decimal", ["percent", "discount", "rate_percent"],
                ["Discount in percent.", "Share in percent."],
                ["with {v} percent off", "at {v} percent", "using a rate of {v} percent"]),
    "weight": ("decimal", ["weight", "weight_kg", "mass"],
               ["Weight in kilograms.", "How heavy the {o} is, in kilograms."],
               ["weighing {v} kg", "of {v} kilograms", "with a weight of {v} kg"]),
    "title": ("title", ["title", "name", "label"],
              ["Title of the {o}.", "What the {o} is called."],
              ['called "{v}"', 'titled "{v}"', 'with the title "{v}"']),
    "message": ("title", ["message", "note", "comment"],
                ["Text to go with the {o}.", "Note for the {o}."],
                ['saying "{v}"', 'with the note "{v}"', 'and add "{v}"']),
    "tags": ("words", ["tags", "keywords", "labels"],
             ["Words that mark the {o}.", "List of tags."],
             ["tagged {v}", "with the tags {v}", "marked as {v}"]),
    "numbers": ("integers", ["numbers", "positions", "rows"],
                ["List of numbers that are concerned.", "Which positions to use."],
                ["for numbers {v}", "at positions {v}", "covering rows {v}"]),
    "range": ("range", ["range", "limits", "bounds"],
              ["Smallest and largest value allowed.", "Lower and upper limit."],
              ["between {v}", "in the range {v}", "with limits {v}"]),
    "period": ("period", ["period", "dates", "interval"],
               ["First and last day, as YYYY-MM-DD.", "Start and end of the period, as YYYY-MM-DD."],
               ["from {v}", "in the period {v}", "over the days {v}"]),
    "stars": ("integer", ["stars", "score", "points"],
              ["Number of points given.", "Points for the {o}."],
              ["with {v} points", "giving {v} points", "scoring {v}"]),
    "website": ("website", ["website", "url", "link"],
                ["Web page of the {o}.", "Link that belongs to the {o}."],
                ["from the page {v}", "using {v}", "with the link {v}"]),
    "destination": ("city", ["destination", "to_city", "arrival"],
                    ["City to go to.", "Where the {o} ends."],
                    ["to {v}", "going to {v}", "heading to {v}"]),
    "origin": ("city", ["origin", "from_city", "departure"],
               ["City to start from.", "Where the {o} begins."],
               ["out of {v}", "leaving from {v}", "departing {v}"]),
}

# domain: group; objects "name=other phrase;..."; verbs; shared fields;
# identifiers "name|PREFIX|description|clause/clause"; choices "name|description|clause|value,value,...";
# switches "name|description|true phrase|false phrase"
DOMAINS = {
    "travel": dict(group="labelled", verbs="book cancel find update price",
        objects="flight=plane ticket;hotel room=place to stay;rental car=hire car;train ticket=rail ticket;"
                "city tour=guided tour",
        fields="person date city destination origin people budget",
        ids="booking_code|BK|Code of the booking.|with booking code {v}/under code {v}",
        choices="travel_class|Class of the {o}.|in {v} class|economy,business,first;"
                "meal|Kind of meal.|with a {v} meal|vegan,regular,kosher",
        switches="insurance|Whether travel insurance is added.|with insurance|without insurance;"
                 "flexible|Whether the dates can move.|with flexible dates|with fixed dates"),
    "dining": dict(group="labelled", verbs="book cancel find rate order",
        objects="table=spot to eat;dinner menu=evening menu;lunch box=packed lunch;birthday cake=party cake;"
                "wine bottle=bottle of wine",
        fields="person time people city budget message stars",
        ids="reservation_id|RS|Number of the reservation.|with reservation {v}/for reservation {v}",
        choices="cuisine|Kind of kitchen.|with {v} food|italian,thai,mexican,indian;"
                "seating|Where to sit.|seated {v}|indoors,outdoors,upstairs",
        switches="gift_wrap|Whether it is wrapped as a gift.|gift wrapped|not gift wrapped;"
                 "spicy|Whether it may be hot.|spicy please|not spicy"),
    "banking": dict(group="labelled", verbs="send create stop approve track",
        objects="payment=money transfer;savings plan=savings account;loan request=credit request;"
                "standing order=regular payment;credit card=charge card",
        fields="person amount percent date email period",
        ids="account_id|AC|Number of the account.|from account {v}/using account {v}",
        choices="currency|Currency of the {o}.|in {v}|euros,dollars,pounds,yen;"
                "speed|How fast it is done.|with {v} handling|instant,standard,slow",
        switches="receipt|Whether a receipt is sent.|with a receipt|without a receipt;"
                 "recurring|Whether it is repeated.|repeated every month|only once"),
    "health": dict(group="labelled", verbs="book cancel update schedule track",
        objects="doctor visit=appointment with a doctor;blood test=lab test;vaccination=shot;eye exam=vision check;"
                "dental cleaning=teeth cleaning",
        fields="person date time phone minutes manager",
        ids="patient_id|PT|Number of the patient.|for patient {v}/with patient number {v}",
        choices="urgency|How urgent it is.|as {v} care|routine,urgent,emergency;"
                "ward|Part of the clinic.|in the {v} ward|children,adult,surgery",
        switches="fasting|Whether the patient fasts.|while fasting|without fasting;"
                 "first_visit|Whether it is the first visit.|as a first visit|as a follow up"),
    "music": dict(group="labelled", verbs="create find share rate delete",
        objects="playlist=list of songs;album=record;concert ticket=gig ticket;song lyric=text of a song;"
                "podcast episode=podcast show",
        fields="title person tags minutes stars website",
        ids="track_id|TR|Number of the track.|with track {v}/using track {v}",
        choices="genre|Style of music.|of the {v} genre|jazz,rock,folk,metal;"
                "quality|Sound quality.|in {v} quality|low,medium,high",
        switches="public|Whether all can see it.|visible to all|kept private;"
                 "shuffle|Whether the order is random.|in random order|in the given order"),
    "shopping": dict(group="labelled", verbs="order cancel find track price",
        objects="pair of shoes=set of sneakers;winter coat=warm coat;desk lamp=table light;coffee machine=coffee maker;"
                "phone case=phone cover",
        fields="person count budget address percent email weight",
        ids="order_id|OR|Number of the order.|with order number {v}/on order {v}",
        choices="color|Color of the {o}.|in {v}|red,blue,green,black;"
                "size|Size of the {o}.|in size {v}|small,large,huge",
        switches="express|Whether delivery is fast.|with express delivery|with normal delivery;"
                 "used|Whether used goods are fine.|used is fine|only brand new"),
    "calendar": dict(group="labelled", verbs="create cancel update schedule share",
        objects="meeting=team meeting;reminder=alert;birthday party=birthday event;video call=online call;"
                "workshop=training session",
        fields="title date time minutes people email city",
        ids="room_id|RM|Number of the room.|in room {v}/using room {v}",
        choices="repeat|How often it comes back.|repeating {v}|daily,weekly,monthly;"
                "importance|How much it matters.|with {v} importance|minor,normal,major",
        switches="all_day|Whether it takes the whole day.|as an all day event|only for part of the day;"
                 "private|Whether others are kept out.|hidden from others|open to others"),
    "real_estate": dict(group="labelled", verbs="find price inspect rate archive",
        objects="apartment=flat;family house=home;office floor=office space;parking spot=place to park;"
                "garden plot=piece of garden",
        fields="city budget address range manager deadline numbers",
        ids="listing_id|LS|Number of the listing.|with listing {v}/from listing {v}",
        choices="heating|Kind of heating.|with {v} heating|gas,solar,electric;"
                "condition|State of the {o}.|in {v} condition|new,old,renovated",
        switches="furnished|Whether furniture is included.|with furniture|without furniture;"
                 "pets|Whether pets may live there.|pets allowed|no pets"),
    "mail": dict(group="labelled", verbs="send delete archive find report",
        objects="letter=written letter;newsletter=news mail;parcel=package;postcard=picture card;"
                "invoice mail=bill mail",
        fields="person email address message weight tags date",
        ids="tracking_code|TK|Code to track it.|with tracking code {v}/tracked as {v}",
        choices="folder|Folder it goes to.|in the {v} folder|inbox,work,private,spam;"
                "stamp|Kind of stamp.|with a {v} stamp|plain,gold,silver",
        switches="signature|Whether someone must sign.|signature needed|no signature;"
                 "fragile|Whether it can break.|handle as fragile|not fragile"),
    "fitness": dict(group="labelled", verbs="start stop schedule track register",
        objects="running plan=jogging plan;yoga class=yoga lesson;swim session=swimming hour;gym membership=gym pass;"
                "cycling trip=bike trip",
        fields="person minutes time date weight period people",
        ids="member_id|MB|Number of the member.|for member {v}/with member number {v}",
        choices="level|How hard it is.|at {v} level|beginner,middle,expert;"
                "goal|What it is for.|aimed at {v}|strength,endurance,balance",
        switches="coach|Whether a coach is there.|with a coach|without a coach;"
                 "outdoor|Whether it is outside.|out in the open|inside the hall"),

    "farming": dict(group="unlabelled", verbs="start inspect measure schedule order",
        objects="wheat field=grain field;greenhouse=glass house;cow herd=group of cows;water pump=irrigation pump;"
                "seed bag=sack of seeds",
        fields="manager date weight count range tags city",
        ids="plot_id|PL|Number of the plot.|on plot {v}/for plot {v}",
        choices="season|Season of the {o}.|during {v}|spring,summer,autumn,winter;"
                "soil|Kind of soil.|on {v} soil|sandy,clay,rocky",
        switches="organic|Whether it is organic.|the organic way|with common methods;"
                 "fenced|Whether there is a fence.|with a fence around|without any fence"),
    "library": dict(group="unlabelled", verbs="find renew register archive rate",
        objects="novel=story book;reading room=quiet room;library card=reader card;magazine issue=issue of a magazine;"
                "old map=ancient map",
        fields="title person deadline tags stars numbers email",
        ids="shelf_mark|SH|Mark of the shelf.|on shelf {v}/at shelf mark {v}",
        choices="language|Language of the {o}.|written in {v}|english,german,french,latin;"
                "format|Form of the {o}.|as {v} copy|paper,audio,digital",
        switches="large_print|Whether the letters are big.|with large print|with normal print;"
                 "reserve|Whether it is kept aside.|kept aside for me|not kept aside"),
    "factory": dict(group="unlabelled", verbs="start stop inspect repair report",
        objects="assembly line=production line;robot arm=machine arm;oven=furnace;conveyor belt=moving belt;"
                "paint shop=painting hall",
        fields="manager minutes percent numbers deadline message range",
        ids="machine_id|MC|Number of the machine.|on machine {v}/for machine {v}",
        choices="shift|Which shift works.|in the {v} shift|early,late,night;"
                "alarm|Level of alarm.|with a {v} alarm|yellow,orange,purple",
        switches="lockout|Whether the power is cut.|with the power cut|with the power on;"
                 "overtime|Whether extra hours are fine.|overtime allowed|no overtime"),
    "museum": dict(group="unlabelled", verbs="book schedule price share inspect",
        objects="exhibition=art show;audio guide=listening guide;school visit=class visit;painting=picture on the wall;"
                "night opening=late opening",
        fields="title people date time amount person phone",
        ids="gallery_id|GA|Number of the gallery.|in gallery {v}/at gallery {v}",
        choices="epoch|Time it comes from.|from the {v} epoch|roman,gothic,modern;"
                "audience|Who it is made for.|meant for {v}|kids,students,seniors",
        switches="photo|Whether photos may be taken.|photos allowed|photos forbidden;"
                 "wheelchair|Whether wheelchairs can enter.|open to wheelchairs|not open to wheelchairs"),
    "energy": dict(group="unlabelled", verbs="measure start stop price report",
        objects="solar panel=sun panel;wind turbine=wind mill;power meter=electricity meter;"
                "battery bank=set of batteries;heat pump=heating pump",
        fields="address range percent period numbers manager date",
        ids="grid_id|GR|Number of the grid.|on grid {v}/connected to grid {v}",
        choices="tariff|Price plan.|on the {v} tariff|base,peak,green;mode|How it runs.|in {v} mode|eco,boost,silent",
        switches="backup|Whether a spare is ready.|with a backup ready|without a backup;"
                 "smart|Whether it steers itself.|steering itself|steered by hand"),
    "theater": dict(group="unlabelled", verbs="book cancel rate schedule assign",
        objects="stage play=drama;opera night=evening at the opera;rehearsal=practice run;costume=stage dress;"
                "box seat=seat in a box",
        fields="title person time people budget stars minutes",
        ids="seat_code|ST|Code of the seat.|at seat {v}/with seat code {v}",
        choices="act|Part of the evening.|in the {v} act|opening,second,final;"
                "voice|Kind of voice.|sung by a {v}|tenor,alto,bass",
        switches="subtitles|Whether the words are shown.|with subtitles|without subtitles;"
                 "premiere|Whether it is shown the first time.|as a premiere|as a repeat"),
    "logistics": dict(group="unlabelled", verbs="send track cancel price assign",
        objects="freight container=cargo box;delivery van=transport van;pallet=loading pallet;cargo ship=freighter;"
                "warehouse bay=storage bay",
        fields="origin destination weight count deadline email address",
        ids="shipment_id|SP|Number of the shipment.|under shipment {v}/for shipment {v}",
        choices="goods|Kind of goods.|loaded with {v}|timber,grain,steel;"
                "cooling|How cold it is kept.|kept {v}|warm,cool,frozen",
        switches="customs|Whether customs must check.|with a customs check|without a customs check;"
                 "stackable|Whether it can be piled up.|can be stacked|cannot be stacked"),
    "school": dict(group="unlabelled", verbs="register schedule create cancel rate",
        objects="math course=course in math;field trip=school trip;exam paper=written exam;"
                "parents evening=evening for parents;science project=research project",
        fields="person title date minutes people tags manager",
        ids="class_id|CL|Number of the class.|for class {v}/in class {v}",
        choices="grade|Grade of the pupils.|in {v} grade|lower,upper,senior;"
                "style|How it is taught.|taught as {v}|lecture,seminar,lab",
        switches="homework|Whether there is homework.|with homework|without homework;"
                 "graded|Whether it counts.|counted in the marks|not counted in the marks"),

    "space": dict(group="heldout", verbs="start track measure assign",
        objects="satellite=orbiter;rocket stage=booster;lunar rover=moon buggy;telescope slot=observing slot",
        fields="manager date minutes range title numbers",
        ids="mission_id|MS|Number of the mission.|for mission {v}/on mission {v}",
        choices="orbit|Kind of orbit.|in a {v} orbit|polar,equatorial,elliptic",
        switches="crewed|Whether people are on board.|with a crew on board|without a crew"),
    "wildlife": dict(group="heldout", verbs="track report share create",
        objects="bird count=census of birds;nest box=nesting box;otter den=home of otters;feeding station=feeder",
        fields="city date count person tags message",
        ids="ring_id|RG|Number of the ring.|wearing ring {v}/with ring {v}",
        choices="habitat|Where animals live.|in the {v} habitat|wetland,forest,dune",
        switches="endangered|Whether the species is at risk.|as an endangered species|as a common species"),
    "legal": dict(group="heldout", verbs="create renew approve send",
        objects="lease contract=rental agreement;patent claim=claim for a patent;court hearing=day in court;"
                "power of attorney=proxy letter",
        fields="person deadline amount email message period",
        ids="docket_id|DK|Number of the docket.|under docket {v}/filed as {v}",
        choices="court|Kind of court.|before the {v} court|civil,labor,appeal",
        switches="notarized|Whether a notary signs.|signed by a notary|without a notary"),
    "gaming": dict(group="heldout", verbs="create start rate price",
        objects="quest=adventure mission;avatar skin=character outfit;guild raid=team raid;game server=play server",
        fields="title people minutes amount tags stars",
        ids="player_id|GM|Number of the player.|as player {v}/for player {v}",
        choices="difficulty|How difficult it is.|on {v} difficulty|casual,brutal,legendary",
        switches="ranked|Whether it counts for the ladder.|as a ranked match|as an unranked match"),
}

# Frames around a request. {r} is the request in small letters; `shifted` frames are used in unlabelled and held-out
# domains only.
FRAMES = ["{r}.", "Please {r}.", "Can you {r}?", "I need you to {r}.", "I would like to {r}."]
SHIFTED_FRAMES = ["It is time to {r}.", "Our team has to {r}.", "Be so kind and {r}.", "The plan is to {r}."]
JOINS = ["{a} Also, {b}", "{a} Then {b}", "{a} After that, {b}"]

# Value pools, (training, testing): no testing value occurs in any training text.
FIRST_NAMES = ("Anna Boris Clara David Elena Felix Grace Henry Irene Jonas Karen Lucas Maria Nora Oscar Paula Quinn "
               "Rita Simon Tina Victor Wendy Xavier Yara Zoe Aaron Bella Carlos Diana Edgar".split(),
               "Amir Beatriz Cedric Dolores Emil Farah Gustav Hanna Ivan Julia".split())
LAST_STARTS = ("Bran Car Dal Fer Gar Hol Jan Kel Lind Mar Nor Pet Rich Sand Tor Wal".split(),
               "Ash Brock Dun Falk Grin Hav Kirk Lam".split())
LAST_ENDS = ("berg dale ford man sen son ton well wood ler".split(), "by field gate holm more stad".split())
CITY_STARTS = ("Al Bel Cor Dor Fal Gren Hal Kar Lor Mal Nev Or Pal Rov Sel Tar Vel".split(),
               "Ard Brin Cael Drum Eln Fenn Glas Hest".split())
CITY_ENDS = ("a burg dam eth ia ina mont ora ova port stead ville".split(), "aven bury combe dell mere wick".split())
TITLE_FIRST = ("Silent Golden Broken Hidden Early Bright Lonely Distant Gentle Frozen Wild Secret Little Final Happy "
               "Quiet".split(),
               "Crimson Velvet Hollow Ancient Restless Copper Wandering Pale".split())
TITLE_LAST = ("Harbor River Garden Summer Window Journey Mountain Letter Morning Island Promise Shadow Bridge Forest "
              "Song Street".split(),
              "Lantern Compass Meadow Orchard Thunder Castle Mirror Valley".split())
TAG_WORDS = ("alpha bravo classic draft family focus fresh garden global local market nature office orange party quick "
             "rural smart social spring studio summer travel urgent vintage weekend winter yellow".split(),
             "amber breeze cobalt delta ember harvest ivory jungle lagoon marble nova pepper".split())
STREETS = ("Oak Pine Mill Park Lake Hill King Rose".split(), "Elm Birch Abbey Dock".split())
MAIL_HOSTS = ("mail.com post.org inbox.net".split(), "letters.io quickmail.co".split())
