"""What the simulated teacher knows about people: fields of work, who works there, whom they deal with.

Data only; `synth.simulated.persona` composes descriptions from it. Everything here is written by
hand for this project, so personas made from it carry nobody's licence but ours.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Field:
    """A field of work or life.

    Attributes:
        keywords: singular lower-case words of texts that belong to the field.
        roles: people of the field, without an article.
        settings: where they are found, as it follows the role ("at a rural clinic").
        goals: what they are after, as it follows "who wants to".
        related: pairs of a relation and the person it leads to, without an article.
    """

    name: str
    keywords: frozenset[str]
    roles: tuple[str, ...]
    settings: tuple[str, ...]
    goals: tuple[str, ...]
    related: tuple[tuple[str, str], ...]


def _field(name: str, keywords: str, roles: str, settings: str, goals: str, related: str) -> Field:
    pairs = tuple((relation.strip(), who.strip()) for relation, who in (r.split(":") for r in _list(related)))
    return Field(name, _words(keywords), _list(roles), _list(settings), _list(goals), pairs)


def _list(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(";"))


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FIELDS = (
    _field(
        "medicine",
        "patient hospital clinical disease surgery doctor medical diagnosis treatment symptom cancer therapy physician clinic tumor chronic infection blood heart",
        "emergency physician; paediatric oncologist; rural general practitioner; orthopaedic surgeon; radiology resident; epidemiologist",
        "at a crowded teaching hospital; in a two-doctor village practice; on a national screening programme",
        "shorten the time to a diagnosis; spare patients needless procedures; compare treatments on honest evidence",
        "patient: retired bus driver with a heart condition; medical student: third-year student on a first ward rotation; supplier: sales engineer for imaging equipment; receptionist: clinic receptionist who runs a full waiting room",
    ),
    _field(
        "care",
        "nurse nursing caregiver elderly ward dementia hospice midwife disability wheelchair rehabilitation carer bedside",
        "night-shift ward nurse; community midwife; hospice volunteer; physiotherapist; care home manager; paramedic",
        "on an understaffed geriatric ward; in a mobile team that visits homes; at a rehabilitation centre by a lake",
        "keep older people mobile and at home; hand over shifts without losing anything; get families to plan ahead",
        "patient: child with asthma who dreads needles; colleague: hospital porter who knows every corridor; supplier: distributor of walking aids; relative: daughter who looks after a father with dementia",
    ),
    _field(
        "pharmacy",
        "drug dose dosage pharmaceutical vaccine trial compound placebo tablet pharmacy medication antibiotic efficacy receptor",
        "community pharmacist; medicinal chemist; clinical trial coordinator; toxicologist; vaccine production engineer",
        "at a mid-sized drug maker; behind the counter of a night pharmacy; in a university trial unit",
        "catch harmful interactions early; recruit a trial on schedule; scale a synthesis from grams to kilograms",
        "customer: pensioner who takes nine medicines a day; regulator: assessor at a medicines agency; trial participant: student who joins trials for the allowance",
    ),
    _field(
        "biology",
        "cell protein gene dna genome bacteria species organism molecular enzyme evolution mutation biology biological tissue membrane mice neuron",
        "molecular biologist; population geneticist; microbiology technician; evolutionary biologist; structural biologist; neuroscientist",
        "in a small university laboratory; at a gene bank; at a start-up that sequences soil",
        "explain how a trait spreads through a population; make an assay reproducible; publish the first data set of its kind",
        "supervisor: principal investigator who is short of grants; technician: animal keeper of a research facility; competitor: postdoctoral rival racing for the same result",
    ),
    _field(
        "environment",
        "climate forest ocean river habitat conservation pollution wildlife ecosystem carbon emission environmental biodiversity rainfall flood coral glacier bird fish",
        "conservation ecologist; hydrologist; park ranger; climate policy adviser; marine biologist; environmental inspector",
        "at a wetland reserve; for a river basin authority; on a research vessel",
        "restore a habitat before the funds run out; forecast floods a week ahead; count a shy species without disturbing it",
        "neighbour: fisher whose quota was cut; volunteer: schoolgirl who rings birds at weekends; opponent: quarry owner who waits for a permit",
    ),
    _field(
        "agriculture",
        "farm farmer crop soil harvest wheat cattle livestock irrigation fertilizer seed dairy orchard vineyard greenhouse pesticide garden plant",
        "dairy farmer; agronomist; vineyard manager; large-animal veterinarian; irrigation planner; urban gardener",
        "on a family farm in dry hills; at a seed cooperative; in an allotment colony at the edge of a city",
        "grow more with less water; plan crop rotations years ahead; sell directly to local kitchens",
        "buyer: market trader who sets out at four in the morning; seasonal worker: fruit picker saving for a house; supplier: tractor mechanic with a mobile workshop",
    ),
    _field(
        "chemistry",
        "chemical chemistry polymer catalyst reaction molecule synthesis alloy crystal nanoparticle film material oxide spectroscopy acid solvent temperature",
        "process chemist; materials scientist; polymer engineer; analytical laboratory manager; glass technologist",
        "at a coatings plant; in a national metrology institute; in a shared clean room",
        "replace a toxic solvent; find out why a batch fails; make a material that survives a thousand cycles",
        "customer: purchasing manager of a paint maker; student: chemistry apprentice in the last year; inspector: safety officer who audits storage rooms",
    ),
    _field(
        "physics",
        "quantum energy particle photon electron neutrino magnetic laser spin symmetry gravity relativity boson quark scattering lattice superconducting phase collider",
        "theoretical particle physicist; condensed matter experimentalist; accelerator operator; optics engineer; physics teacher",
        "at a synchrotron; in a group of four under the roof of an old institute; at an underground detector",
        "find the error budget of a delicate measurement; simulate a model beyond perturbation theory; explain hard ideas with plain pictures",
        "collaborator: programmer who maintains simulation code; doctoral student: doctoral student who runs the night shifts; critic: referee who distrusts small error bars",
    ),
    _field(
        "astronomy",
        "galaxy star telescope planet orbit stellar cosmic redshift solar supernova asteroid luminosity astronomical universe dwarf spectrum halo",
        "observational astronomer; amateur telescope maker; planetarium guide; satellite orbit analyst; cosmologist",
        "at a mountain observatory; with a back-garden dome; in a survey collaboration of hundreds",
        "squeeze a distance out of faint light; schedule a season of observing nights; show children their first crater",
        "assistant: night cook of an observatory; visitor: teenager who saves up for a first telescope; engineer: cryogenics technician for cameras",
    ),
    _field(
        "mathematics",
        "theorem proof algebra equation manifold topology conjecture polynomial finite operator algebraic space metric bounded convergence asymptotic lemma integer prime matrix geometry functional subset mathematics mathematical",
        "number theorist; algebraic geometer; combinatorics lecturer; applied analyst; mathematics olympiad coach; mathematical logician",
        "at a small mathematics department; between two visiting positions; in a summer school for gifted pupils",
        "settle a special case of an old conjecture; set problems with surprising short solutions; turn an existence proof into an algorithm",
        "student: olympiad contestant who prefers geometry; co-author: computer algebra programmer; publisher: journal typesetter who checks every index",
    ),
    _field(
        "statistics",
        "statistical data regression sample estimate inference bayesian survey probability variance prediction dataset estimator likelihood stochastic random simulation",
        "survey statistician; insurance actuary; biostatistician; forecasting analyst; data journalist",
        "at a national statistics office; in the risk department of an insurer; in a newsroom's data team",
        "separate signal from seasonal noise; price a rare risk; make uncertainty understood by people who decide",
        "client: campaign manager who wants one number; interviewer: telephone interviewer paid by the call; critic: retired professor who checks published tables",
    ),
    _field(
        "computing",
        "software algorithm code computer database server programming network user file api function query system web linux python java neural learning model training table string class",
        "backend developer; machine learning engineer; database administrator; open-source maintainer; site reliability engineer; compiler engineer; usability researcher",
        "at a payments start-up; in a city's IT department; on a fully remote team across nine time zones",
        "make a slow query fast; get paged less at night; ship a model that still works next year",
        "user: accountant who lives in a legacy system; intern: intern who writes first unit tests; vendor: cloud sales representative; manager: product manager with a fixed deadline",
    ),
    _field(
        "electronics",
        "circuit sensor voltage antenna wireless signal chip semiconductor radio device frequency transistor battery bandwidth channel mobile phone camera",
        "embedded systems engineer; radio amateur; chip verification engineer; telecom field technician; repair shop owner",
        "in a garage laboratory full of oscilloscopes; at a base station contractor; in a two-person repair shop",
        "halve the power draw of a sensor node; trace interference to its source; keep old devices out of the bin",
        "customer: grandmother with a broken hearing aid; supplier: component broker who tracks shortages; apprentice: apprentice who solders under a microscope",
    ),
    _field(
        "manufacturing",
        "machine factory manufacturing industrial production welding tool quality assembly steel mechanical engineering machining engineer plant equipment maintenance apprentice",
        "toolmaker; production planner; quality inspector; robotics integrator; maintenance foreman; industrial designer",
        "at a family-owned foundry; on a three-shift assembly line; in a supplier park next to a car plant",
        "cut scrap on an old press; balance a line after a model change; train apprentices who stay",
        "apprentice: apprentice at a lathe; competitor: owner of a rival machine shop; logistics partner: forklift driver who loads at night",
    ),
    _field(
        "construction",
        "building house construction roof concrete architect door window kitchen bathroom wood floor repair installation property plumbing wall interior room tenant apartment",
        "structural engineer; master carpenter; architect of small houses; locksmith; property manager; heating installer",
        "in a town of half-timbered houses; with a crew of six; at an architecture office above a bakery",
        "renovate without tearing down; keep a tight budget on site; fit a kitchen into an odd room",
        "client: young couple with a first mortgage; subcontractor: roofer who hates November; neighbour: pensioner who lives next to a building site",
    ),
    _field(
        "transport",
        "car vehicle driver road traffic train railway truck bus engine tire bicycle highway driving motor parking station passenger route",
        "long-haul truck driver; railway timetable planner; car mechanic; traffic engineer; bicycle courier; driving instructor",
        "at a depot on the ring road; in a control centre with forty screens; in a garage for vintage cars",
        "save fuel on a fixed route; untangle a junction; keep a punctual line punctual",
        "passenger: commuter who changes trains twice; dispatcher: night dispatcher of a haulage firm; learner: nervous learner at fifty-two",
    ),
    _field(
        "aerospace and shipping",
        "aircraft flight airline pilot airport ship port vessel boat navy rocket satellite aviation sailing harbor drone cargo sea",
        "regional airline pilot; harbour pilot; air traffic controller; satellite engineer; container terminal planner; sailmaker",
        "at a fog-bound harbour; at a one-runway airport; on a training ship",
        "land safely in a gusty crosswind; turn a ship around in a day; get a small payload into orbit",
        "passenger: frequent flyer who fears turbulence; mechanic: turbine mechanic on nights; customer: coffee importer who waits for a container",
    ),
    _field(
        "energy",
        "power electricity oil gas wind turbine nuclear fuel renewable grid panel coal petroleum pipeline reactor heat solar hydrogen",
        "grid operator; wind farm technician; reservoir geologist; energy auditor; reactor safety analyst",
        "in a control room that never closes; on an offshore platform; for a village energy cooperative",
        "balance supply and demand to the second; bring down a town's heating bill; plan for the hour when the wind stops",
        "customer: greenhouse owner with a huge bill; regulator: tariff economist; opponent: resident who campaigns against pylons",
    ),
    _field(
        "finance",
        "bank investment stock market financial loan credit tax insurance trading fund asset price currency portfolio investor capital debt money income bitcoin",
        "portfolio manager; small-town bank clerk; tax adviser; microcredit officer; forensic accountant; retired day trader",
        "at a savings bank; in a family office; at a kitchen table with three monitors",
        "hedge against a bad year; find where the money went; retire at fifty-five",
        "client: restaurant owner who needs a loan; trainee: trainee who reconciles ledgers; opponent: lawyer of a bankrupt developer",
    ),
    _field(
        "business",
        "company business marketing customer brand sale manager startup strategy product client service advertising team employee industry enterprise consultant growth economic",
        "start-up founder; brand strategist; human resources partner; management consultant; franchise owner; trade fair organiser",
        "at a firm that outgrew its office; between two rounds of funding; in a chamber of commerce",
        "win back lost customers; hire without bias; turn a side project into a living",
        "employee: first employee of a start-up; investor: angel investor who made a fortune in packaging; competitor: founder of a copycat shop",
    ),
    _field(
        "retail and fashion",
        "shop store fashion clothing dress shoe jewelry fabric leather color style buy online order delivery wedding gift collection discount beauty skin hair",
        "boutique owner; pattern cutter; online merchandiser; jeweller; cosmetics formulator; vintage clothes dealer",
        "in an arcade of small shops; at a mail-order house; from a spare room full of parcels",
        "order the right sizes for a season; sew with no waste of cloth; photograph stock so that it sells",
        "customer: bride on a tight budget; supplier: weaver from a mill town; employee: student who works Saturdays at the till",
    ),
    _field(
        "law",
        "law court legal attorney judge contract lawyer case rights criminal justice plaintiff statute patent trial appeal liability defendant crime police",
        "public defender; patent attorney; family court judge; contract lawyer; legal aid volunteer; notary",
        "at a county court; in a two-room practice; in the legal department of a port",
        "keep a weak case out of court; draft clauses nobody can misread; win asylum for a client",
        "client: tenant who fights an eviction; clerk: court clerk with thirty years of files; witness: shopkeeper called as a witness",
    ),
    _field(
        "government",
        "government election policy political president minister party parliament vote public council mayor citizen state democracy reform national commune municipality federal senate republican",
        "city councillor; policy analyst; electoral officer; diplomat; local historian of government; town clerk",
        "in a municipality of nine thousand people; at a ministry; on a cross-border commission",
        "get a bus line past the budget committee; count votes beyond doubt; draw fair districts",
        "constituent: baker who complains about parking; rival: opposition candidate; aide: speechwriter who works through the night",
    ),
    _field(
        "security",
        "military war army soldier weapon security defense terrorism intelligence veteran battle attack missile troop guard encryption cyber surveillance",
        "military logistics officer; penetration tester; peacekeeping veteran; firefighter commander; border guard; cryptographer",
        "at a garrison town; in a computer emergency team; on a disaster relief staff",
        "move supplies over broken roads; find the hole before others do; come home without nightmares",
        "spouse: spouse who moves house every third year; recruit: recruit who is homesick; contractor: builder of temporary bridges",
    ),
    _field(
        "education",
        "student school teacher university education learning classroom course college curriculum teaching academic exam child scholarship grade lesson campus",
        "primary school teacher; school librarian; curriculum designer; vocational trainer; university admissions officer; special needs teacher",
        "at a village school with mixed grades; at an evening college; in a district with too few teachers",
        "make fractions feel natural; reach pupils who stopped asking; mark less and teach more",
        "student: twelve-year-old who finishes early and gets bored; parent: mother who translates at parent evenings; colleague: caretaker who also coaches chess",
    ),
    _field(
        "psychology",
        "psychological social behavior mental depression anxiety cognitive emotion community relationship stress trauma family woman gender identity support youth attitude",
        "school psychologist; social worker; addiction counsellor; organisational psychologist; community organiser",
        "at a youth centre; in a walk-in clinic; in an institute for work and health",
        "help families talk again; measure what really lowers stress; keep teenagers out of trouble",
        "client: apprentice who cannot sleep; supervisor: head of an overworked agency; friend: neighbour who listens well",
    ),
    _field(
        "history",
        "history century ancient empire war archaeological historical king medieval museum dynasty colonial archive heritage roman revolution tradition tribe born reign",
        "medieval historian; museum curator; field archaeologist; genealogist; archivist; battlefield tour guide",
        "at a provincial museum; in a monastery archive; on a dig under a car park",
        "date a find beyond dispute; fill a gap in a family tree; let an old town tell its story",
        "visitor: pensioner who visits every exhibition twice; donor: heir of a box of letters; student: student who draws pottery sherds",
    ),
    _field(
        "language and literature",
        "book novel poem language writer author literature literary translation word grammar poetry shakespeare fiction reader publisher linguistic english story essay",
        "literary translator; crime novelist; field linguist; copy editor; bookshop owner; speech therapist",
        "in a flat lined with dictionaries; at a small press; in a village with two dialects",
        "find the right word after three days; save a dying language on tape; finish a second novel",
        "reader: prisoner who reads everything twice; agent: literary agent with a slush pile; pupil: exchange student who learns through songs",
    ),
    _field(
        "music",
        "music song band album guitar concert singer piano orchestra jazz musician recording rock melody rhythm instrument sound opera",
        "jazz pianist; luthier; sound engineer; choir conductor; club promoter; ethnomusicologist",
        "in a cellar studio; at a conservatory; with a touring brass band",
        "tune an old hall; record in one take; fill a weekday concert",
        "student: beginner who practises scales at dawn; fan: nurse who collects vinyl; supplier: timber merchant for tonewood",
    ),
    _field(
        "art and film",
        "film movie art artist theatre painting television actor director gallery photography scene character audience series design festival dance drama video photo image",
        "documentary film-maker; stage designer; portrait painter; art restorer; film critic; choreographer; wedding photographer",
        "at a repertory cinema; in a studio shared by five; at a municipal theatre",
        "light a scene with one lamp; restore a fresco; finish on the last euro",
        "audience member: usher who has seen every performance; sponsor: brewery owner who funds art; assistant: props assistant with a van",
    ),
    _field(
        "sport",
        "game team player season football league coach match basketball tournament cricket baseball goal championship club race athlete fitness score golf running",
        "youth football coach; marathon runner; sports physiotherapist; cricket statistician; referee; climbing guide",
        "at an amateur club; at a training camp in the mountains; in a league office",
        "peak on the right day; pace a long race evenly; settle an argument with numbers",
        "athlete: sprinter who comes back from an injury; fan: season ticket holder since childhood; parent: father who drives to every away game",
    ),
    _field(
        "food",
        "food recipe restaurant cook cooking flavor chef wine sugar cheese meat taste vegetable chocolate coffee meal bread ingredient sauce eat diet fruit",
        "pastry chef; food scientist; street food vendor; cheesemaker; school canteen cook; dietitian; home brewer",
        "in a kitchen of nine square metres; at a market hall; in a factory for ready meals",
        "scale a recipe from four to four hundred; cut sugar without losing taste; throw nothing away",
        "guest: food critic who books under false names; supplier: oyster farmer; apprentice: dishwasher who wants to cook",
    ),
    _field(
        "travel",
        "travel hotel tourist trip island beach city destination visitor tour resort mountain holiday map country village guide vacation camping lake",
        "mountain guide; hotel night manager; travel blogger; cartographer; cruise entertainer; hostel founder",
        "in a valley with one road; at a hotel of twelve rooms; on the road for most of the year",
        "plan a trip with no flights; fill rooms in the off season; map a trail before it is lost",
        "guest: retired couple on a first long journey; partner: ferry captain; competitor: platform host with forty flats",
    ),
    _field(
        "religion and philosophy",
        "god church religious faith christian bible spiritual philosophy moral islam jesus prayer buddhist temple muslim ethics belief soul holy objectivism reason philosopher",
        "parish priest; scholar of comparative religion; ethics teacher; Buddhist nun; moral philosopher; hospital chaplain",
        "in a congregation that shrinks; at a divinity school; in a monastery with a guest house",
        "make an old text speak today; argue fairly with opponents; comfort without empty words",
        "congregant: organist who doubts; student: student who writes on free will; neighbour: imam of the mosque next door",
    ),
    _field(
        "media",
        "news newspaper journalist media report press internet blog article social interview broadcast editor twitter facebook audience website post page comment",
        "investigative reporter; local radio host; podcast producer; fact checker; social media moderator",
        "at a paper with a staff of five; in a studio behind a supermarket; on the late shift",
        "get a source on the record; stop a rumour in time; keep readers who pay",
        "source: whistle-blower in a town hall; listener: lorry driver who calls in every night; rival: reporter at the other paper",
    ),
    _field(
        "games and hobbies",
        "gaming hobby puzzle chess craft toy collector diy knitting lego card board play console craftsman quilt model fishing fun",
        "board game designer; chess arbiter; model railway builder; escape room owner; quilter; esports coach",
        "in a club above a pub; in an attic workshop; at a convention table",
        "balance a game for two to six players; win by patience; finish what others give up",
        "opponent: retired surgeon who never resigns; customer: father who looks for a birthday present; partner: illustrator of game boxes",
    ),
    _field(
        "home and family",
        "baby parent mother kid home pet dog cat cleaning father marriage birthday toddler pregnancy son daughter husband wife sleep child",
        "single father of twins; dog trainer; nursery teacher; wedding planner; foster mother; family budget blogger",
        "in a flat with thin walls; in a street where everyone knows everyone; in a house with three generations",
        "get through a week on a plan; teach patience to a puppy; save for a first bicycle",
        "child: eight-year-old who counts everything; grandparent: grandmother who knits for the whole street; neighbour: student who babysits",
    ),
)

TRAITS = _list(
    "patient; blunt; meticulous; restless; soft-spoken; self-taught; newly retired; ambitious; sceptical; frugal; "
    "methodical; curious; overworked; award-winning; bilingual; early-career; semi-retired; stubborn; idealistic; "
    "pragmatic; well-read; shy; competitive; left-handed; soft-hearted; widely travelled; plain-spoken; old-fashioned; "
    "budget-conscious; outspoken; detail-loving; good-humoured; freelance; veteran; part-time; second-generation"
)

INTERESTS = _list(
    "restores mechanical clocks; coaches a girls' chess team; keeps bees on a roof; sings in a choir; solves number "
    "puzzles on the train; volunteers at a food bank; grows giant pumpkins; plays in a pub quiz team; builds kites "
    "with grandchildren; follows long-distance cycling; learns Portuguese; collects tide tables; maps old footpaths; "
    "bakes sourdough for the neighbours; referees at weekends; writes letters to the editor; mends radios; paints "
    "watercolours of bridges; logs the weather every morning; runs a lending library of tools; tutors refugees in "
    "arithmetic; saves for a sailing boat; trains for a first triathlon; trades seeds by post; photographs lichens; "
    "keeps a diary in shorthand; teaches origami; tracks every household expense; plays the accordion at weddings; "
    "walks rescue dogs; studies for an evening degree; designs crosswords; swims in cold lakes; repairs bicycles for "
    "the street; reads detective stories; hosts a monthly science café"
)

# Too common in English prose to be a topic, whatever the text.
STOP_WORDS = _words(
    """
    a able about above across actually after again against ago all almost along already also although always am among an
    and another any anyone anything are area around as ask at available away back based be became because become been
    before began behind being believe below best better between big both bring but by call called came can cannot case
    cause certain change clear come common complete consider contain could country course create day days de deal did
    different do does doing done down due during each early easily easy either else end enough even event ever every
    everyone everything example fact far feel few find first five follow for form found four from full further gave
    general get getting give given go going good got great group had half hand happen has have having he held help her
    here herself high him himself his hold how however i idea if important in include included includes including
    increase indeed instead interest into is issue it item its itself just keep kind know known la large last late later
    least leave left less let level life like likely line list little local long look lot low made main major make makes
    making many matter may maybe me mean means might mind mine more most mr mrs ms much must my myself name near nearly
    necessary need never new next nice no non nor not nothing now number obtain of off offer often old on once one only
    open or order other others our ourselves out over own paper part particular particularly past people per perhaps
    person place please point possible present previous probably problem process provide provided provides put question
    quite range rather real really reason recent recently related result results right said same saw say second see seem
    seen sense set several shall she should show shown shows side similar simple simply since single six small so some
    something sometimes soon special specific start still study such sure take taken talk tell ten than thank that the
    their them themselves then there therefore these they thing things think third this those though thought three
    through thus time times to today together too took toward try trying turn two type typically under understand until
    up upon us use used useful user uses using usually value various very via view want was way ways we week well went
    were what when where whether which while who whole whom whose why will with within without word work works world
    would year years yes yet you your yourself und der die das les des el los las que por para con una un en del se et le
    don doesn didn isn wasn couldn won ll ve re etc eg ie http https www com org html introduce introduced propose
    proposed prove consider investigate obtained present presented respectively recently approach method methods
    """
)
