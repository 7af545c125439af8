package deeplink

import (
	"strings"
	"sync"
)

// passwordWords are 7,776 English words of four to seven letters, in order, no
// two with the same first five letters, of common homophones only one: 12.9 bits
// each. Passwords are made of them (Words).
// The list is frozen: what was handed out on paper is typed in later versions.
//
// Selected from SCOWL, http://wordlist.sourceforge.net, by rank and spelling.
// Copyright 2000-2011 by Kevin Atkinson. Permission to use, copy, modify,
// distribute and sell these word lists, the associated scripts, the output
// created from the scripts, and its documentation for any purpose is hereby
// granted without fee, provided that the above copyright notice appears in all
// copies and that both that copyright notice and this permission notice appear
// in supporting documentation. Kevin Atkinson makes no representations about
// the suitability of this array for any purpose. It is provided "as is"
// without express or implied warranty.
var passwordWords = sync.OnceValue(func() []string {
	return strings.Fields(`
aback abacus abaft abandon abase abash abate abbey abbot abdomen abduct abeam abed abet abhor abide ability abject
ablaze able ably aboard abode abolish abound about above abridge abroad abrupt abscess abscond absence absolve absorb
abstain absurd abut abuzz abysmal abyss academy accede accent accept access acclaim accord accost account accrue
accuse acerbic ache achieve achy acid acidity acme acne acorn acquire acre acreage acrid acrobat acronym across
acrylic action active actor actress actual acumen acute adage adamant adapt addict addle address adept adhere adieu
adjoin adjourn adjunct adjust adman admen admire admit adobe adopt adore adorn adrift adroit adult advance advent
advert advice advise adze aegis aerial aerie aerobic aerosol aery afar affable affair affect affirm affix afflict
afford affront afield afire aflame afloat afoot afoul afraid afresh again agape agar agate agave agency agenda agent
aghast agile agility agitate aglow agog agonize agony agree aground ague ahead ahem ahoy aide ailment aimless airfare
airless airline airmail airport airy ajar akin alarm alas albeit albino album alcohol alcove alder alert alfalfa alga
algae algebra alias alibi alien alight align alike alimony alive alkali allay allege allergy alley allot allow alloy
allude allure almanac almond almost alms aloe aloft aloha alone along aloof aloud alpha alpine already alright also
altar alter alto alum alumna always amass amateur amaze amber ambient amble ambush amen amend amenity amiable amid
amigo amino amiss amity ammo ammonia amnesia amoeba amok among amoral amorous amount amour ampere ample amplify
amputee amulet amuse anagram anarchy anatomy anchor ancient android anemia anew angel anger angle angry angst anguish
angular animal anime anion anise ankh ankle annals annex annoy annual annuity annul anode anoint anomaly anon anorak
another answer antacid ante antenna anthem anthill anti antic antique antler antonym anvil anxiety anxious anybody
anyhow anymore anyone anytime anyway aorta apace apart apathy apex aphid apiece aplomb apology apostle appall apparel
appeal append applaud apple apply appoint apprise approve apps apricot apron apse aqua aquatic arbiter arbor arcade
arcane arch archaic archery archive archway arctic ardent ardor arduous area arena argon argot argue aria arid arise
armband armful armhole armor armpit army aroma arose around arouse arraign arrange array arrears arrest arrive arrow
artery artful article artist artsy artwork arty ascend ascetic ascot ascribe ashamed ashcan ashen ashore ashtray ashy
aside askance askew asleep aspect aspen asphalt aspire assail assay assent assert asset assign assist assort assume
assure aster asthma astir astound astray astride astute asylum atheism athlete atlas atoll atom atomic atone atop
atria attach attain attar attempt attend attest attic attire attract attune auburn auction audible audio audit auger
aught augment augur august aunt aura aural auspice austere author auto autopsy autumn avail avarice avast avenge
avenue aver average averse avert avian aviator avid avocado avoid avow avowal await awake award aware awash away
awesome awful awhile awkward awning awoke awry axial axiom axis axle axon azalea azure babble babe babel baboon baby
babyish babysat back backlog backup bacon bade badge baffle bagel baggage baggy bagpipe bail bailiff bait baize bake
bakery balance balcony bald baleful balk balky ball ballad ballet ballot balm balmy baloney balsa bamboo banana band
bandage bandit bandy bane bangle bani banish banjo bank banns banquet banter baptize barb barbell bard barf bargain
barge bark barley barman barn baron baroque barrage barrel barrier barroom barter basal base bash bashful basic basil
basin basis bask basket bassist bassoon bast baste batch bate bath bathe bathtub batik baton batsman battery battle
batty baud bawl bayonet bayou bazaar beach beacon bead beady beagle beak beam bean bear beard beast beat beaten beau
beauty beaver bebop became because beck beckon become bedbug bedlam bedroom bedside bedtime beef beefy beehive beeline
been beep beeswax beetle beeves befall befell befit befog before began begin beguile begun behalf behave beheld behind
behold beige belabor belated belay belfry believe bell bellboy belle bellhop bellow belly belong beloved below belt
beltway belying bemoan bemuse bench bend beneath benefit benign bent bequest berate bereave bereft beret berg berm
berserk beryl beseech beset beside besiege besom besot best bestow beta betray bettor between bevel bevy beware
bewitch beyond bias bicep bicker bicycle bidden bide bier biggie bight bigotry bigwig bike bile bilge bilk bill
billion billow binary bind binge bingo biology biopsy biped biplane birch bird birth biscuit bisect bishop bison bite
bitmap bitten bizarre blab black bladder blade blah blame blanch bland blank blare blast blatant blaze bleach bleak
bleary bleat bled bleed bleep blemish blend bless blew blight blimp blind bling blink blip bliss blister blithe blitz
bloat blob bloc block blog blond blood bloom blooper blossom blot blotch blouse blow blown blowout blowup blubber blue
bluff bluish blunder blunt blur blurb blurry blurt blush board boast boat bobbin bobby bobcat bobsled bode bodice body
bogey boggle boggy bogie bogus boil bola bold bole boll bologna bolster bolt bonanza bond bone bonfire bongo bonkers
bonnet bonny bonus bony boogie book bookend bookie booklet boom boon boor boorish boost boot bootee booth bootleg
booty borax border bore boredom borne boron borough borrow bosh boss bossy botany botch both bottle bottom bought
boulder bounce bound bounty bouquet bourbon bout bovine bowl boxcar boycott boyhood boyish bozo brace bracket bract
brad brag braid brain braise bran branch brand brash brassy bravado brave bravo brawl brawn bray brazen brazier breach
break breath bred breed breeze brevity brew brewery bribe brick bridal bride bridge brief brier brig brigade bright
brim brine bring brink briny brisk bristle brittle broach broad brocade brogue broil broke bronco bronze brood brook
broom broth brought brow brown browse bruin bruise brunch brunt brush brusque brutal brute brutish bubble buck bucket
buckle buddy budget buff buffalo buffet buffoon buggy bugle build built bulb bulbous bulge bulgy bulk bulky bull
bulldog bullet bullion bully bumble bump bumpy bunch bundle bungle bunion bunk bunny bunt buoy buoyant burble burden
bureau burg burgle burial burka burlap burn burnish burnt burp burr burro bursar burst bury busboy busby bush bushel
bushy bustle busy butch butler butte button buxom buyout buzz buzzard bygone bylaw bypass byte byway cabal cabaret
cabbage cabby cabinet cable caboose cacao cache cackle cacti cactus caddie cadence cadet cadge cadre cage cagey cagier
cahoot cairn cajole cake calcium calculi calf caliber calico calk call callow callus calm calorie calve calyx came
camel cameo camera camp campus campy canary cancel candid candle candor candy cane canine canker cannery cannot canny
canoe canon canopy cant canteen canto canvas canyon capably cape capital capon caprice capsize capsule captain caption
captor capture caramel caravan carbon carbs card cardiac care careen careful caret cargo caribou carjack carnal carol
carom carouse carp carpet carpi carrion carrot carry cart cartel cartoon carve cascade case cash cashew cashier casino
cask casket cast caste castle castoff casual catalog catcall catch catfish catnap catnip cattle catty catwalk caucus
caught causal cause caustic caution cavalry cave caveat caveman cavern caviar cavil cavity cavort cease cedar cede
ceiling celery cell cellar cellist cello cement censor census cent central century ceramic certain certify chafe chaff
chagrin chain chair chalet chalice chalk chamber champ chance change channel chant chaos chaotic chap chapel chapter
char charade charge charity charm chart chary chase chasm chassis chasten chat chatty cheap cheat check cheddar cheek
cheep cheer cheese cheetah chef chemist cherish cherry cherub chess chest chew chewy chic chicken chide chief chiffon
child chili chill chime chimney chimp chin china chino chintz chip chirp chisel chit chive chock choice choir choke
chomp choose chop choppy choral chord chore chortle chorus chose chow chowder chrome chronic chubby chuck chug chum
chummy chunk church churl churn chute cider cigar cilia cinch cinder cinema cipher circa circle circuit cistern
citizen citric citrus city civet civic civil clack clad claim clam clamber clammy clamor clamp clan clang clank clap
claret clarify clash clasp class clatter clause claw clay clean clear cleat cleave clef cleft clench clergy cleric
clerk clever clew click client cliff climate climb clime clinch cling clinic clink clip clique cloak clobber clock
clod clog clomp clone clop close closure clot cloth cloud clout clove clown cloy club cluck clue clump clumsy clung
clunk clutch clutter coach coal coast coat coax cobalt cobble cobra cobweb cocci cocoa coconut cocoon coda code codex
coed coerce coexist coffee coffin cogent cognac coif coil coin coinage coke cola cold colic collar collect collie
cologne colony color colt column coma comb combat combine combo come comedy comet comfort comfy comic command comment
commit common commune company compel compile complex compose compute comrade concave concept conch concise concoct
concur condemn condone conduct cone confess confirm conform confuse conga congest conical conifer conjure conk connect
connive connote conquer consent consist console consult contact content contour control convert convict convoy cook
cookie cookout cool coon coop coot cope copilot copious copra copse copter copy coral cordial cordon core cork corm
corn cornea corny coroner corpus corral correct corrode corrupt corsage corset cortex cosmic cosmos cost costar
costume cote cottage cotton couch cougar cough could council count coup coupe couple coupon courage courier course
court cousin cove coven covert covet covey coward cowboy cowgirl cowhide cowl coyote cozen cozy crab crabby crack
cradle craft crag craggy cram cramp crane cranium crank cranny crash crass crate cravat crave craw crawl crayon craze
crazy creak cream crease create credit credo creed creel creep cremate creole crepe crept cress crest crevice crew
crib cricket crime crimp crimson cringe crinkle crises crisis crisp critic critter croak crochet crock crocus crofts
crone crony crook croon crop croquet cross crouch croup crow crowbar crowd crown crucial crud cruddy crude crudity
cruel cruet cruise crumb crummy crumple crunch crusade crush crust crutch crux crybaby cryptic crystal cube cubic
cubit cuckoo cuddly cuff cuisine cull culprit cult culture cumin cunning cupcake cupful cupid curator curb curd curdle
cure curfew curie curious curl current curry curse cursor curt curtain curtsy curve curvy cushion cushy cusp cuss
custard custom cutback cute cuticle cutlet cutoff cutup cyanide cycle cyclist cyclone cynic cypress cyst czar dabble
dacha daddy dado daemon daffy daft dagger dainty dairy dais daisy dale damage dame damp dampen damsel dance dandy
danger dangle dank dapper dare dark darken darling darn dart dash data date datum daub daunt davit dawdle dawn daytime
daze dazzle deacon dead deaden deadpan deaf deafen deal dealt dean dear dearth death deaves debar debase debate debit
debris debt debtor debug debunk debut decade decaf decal decay decease deceit decent decibel decide decimal deck
declare decline decode decorum decoy decree decry deduce deed deem deep deepen deface defame default defeat defect
defense defer defiant deficit defile define deflate deflect deform defraud defrost deft defunct defuse defy degrade
degree deice deify deign deism deity deject delay delete deli delight delimit deliver dell delta delude deluge deluxe
delve demand demean demerit demise demo demote demount demure denial denim denote dense density dent dental dentist
denture deny depart depend depict deplete deplore deport deposit depot deprave depress deprive depth deputy derail
derange derby deride derive derrick descend desert design desire desist desk desktop despair despite despot destine
destroy detach detail detect deter detest detour detox detract deuce devalue develop deviant device devious devise
devoid devolve devote devour dewy dhoti diagram dial dialect dialog diamond diaper diary dice dicey dicier dictate
diction diesel diet dietary differ diffuse digit dignity digress dike dilate dilemma dill dilly dilute dime dimple
dine ding dinghy dingo dingy dinky dint diocese diode dioxide diploma dire direct dirge dirk dirt dirty disarm disavow
disband disc discard discern disco discus disdain disease disgust dish disk dislike dismal dismiss disobey disown
dispel display dispose dispute disrupt dissect distant distend distill distort disturb disuse ditch dither ditto ditty
diva divan dive divert divide divine divisor divorce divot divulge divvy dizzy docile dock docket doctor dodge dodo
doff doggone doggy dogie dogma dogwood doily dole doleful doll dollar dollop dolphin dolt domain dome domino donate
done donkey donor doodad doodle doom door doorman doorway dopier dorky dorm dormant dorsal dory dosage dose dossier
dote dotty double doubt dough dour douse dove dowdy dowel down downy dowry dowse doyen doze dozen drab draft drag
dragon drain drake dram drama drank drastic draw drawl drawn dray dread dream dreary dredge dregs drench dress drew
dribble drift drill drink drip drive drizzle droll drone drool droop drop dropout dross drought drove drown drowse
drub drudge drug druid drum drunken dryad dual dualism dubious ducal ducat duchess duchy duck duct dude duet duff
dugout duke dull dully dumb dummy dump dumpy dunce dune dungeon dunk dupe duplex durable duress dusk dusky dust
dustbin dustmen dustpan dusty dutiful duty duvet dwarf dweeb dwell dwelt dwindle dynamic dynasty each eager eagle
earache eardrum earl earlobe earmark earmuff earn earplug earshot earth earwax ease easel east eastern easy eaten
eatery eave ebony echo eclipse ecology economy ecru ecstasy eczema eddy edema edge edgy edible edict edifice edify
edit edition editor educate eerie effect effigy effort egghead egoism egotism egret eider eight either eject elapse
elastic elate elation elbow elder eldest elect elegant elegy element elevate eleven elfin elicit elide elite elitist
ellipse elope else elude elusive elves email emanate embalm embark embassy embed ember emblem embody emboss embrace
embroil emcee emend emerald emerge emery eminent emir emirate emit emoji emote emotion empathy emperor empire employ
empower empress empty emulate enable enact enamel enamor encase enchant enclave enclose encode encore endear endemic
endive endless endorse endow endue endure endways enemy energy enforce engage engine engrave engross engulf enhance
enigma enjoy enlarge enlist enliven enmity ennui enough enrage enrich enroll ensign ensue ensure entail enter enthuse
entice entire entity entrap entreat entropy entrust entry entwine envelop envious envoy envy enzyme epaulet epic
epigram episode epistle epitaph epithet epitome epoch epoxy epsilon equal equate equine equip equity erase erasure
erect ergo erode erosion errand erratic error erudite erupt escape eschew escort espouse espy essay essence estate
esteem ester estuary etch eternal ether ethic ethnic ethos eulogy eureka euro evacuee evade evasion even event every
evict evident evil evoke evolve exact exalt exam examine example exceed excel except excerpt excess excise excite
exclaim exclude excuse exec execute exempt exert exes exhale exhaust exhibit exhort exhume exile exist exit exodus
exotic expand expect expel expense expert expire explain explode expo export expose expound express extant extend
extinct extol extort extra extreme exude exult eyeball eyebrow eyelash eyelid eyesore fable fabric facade face facet
facial facile fact faction factor factual faculty fade fail failure fain faint fair fairy faith fake fakir falcon fall
fallacy fallen fallout false falsify falter fame family famine famish famous fanatic fancy fanfare fang fantasy
faraway farce farm fashion fast fasten fatal fate fateful father fathom fatigue fatten fatuous faucet fault faun fauna
favor fawn fear fearful feast feather feature fecal federal feeble feedbag feel feet feign feint feisty feline fell
fellow felon felt female femur fence fend feral ferment fern ferret ferry fertile fervent fervor fest festive festoon
feta fetal fetch feted feting fetter feud feudal fever fezzes fiasco fiat fibrous fiche fickle fiction fiddle fidget
fief field fiend fierce fiery fiesta fife fifteen fifth fifty fight figment figure filch file filet fill fillet film
filmy filter filthy finagle final finance finch find fine finesse finger finicky finish finite fink finny fire firearm
firefly fireman firm first firth fiscal fish fishery fishnet fishy fission fissure fist fitful five fixture fizz
fizzle fizzy fjord flab flabby flack flag flail flair flak flake flaky flame flan flank flannel flap flash flask flat
flatten flaunt flavor flaw flax flay flea fleck fled fledged fleece fleet flesh flew flex flick flight flimsy flinch
fling flint flip flirt flit float flock flog flood floor flop floppy flora florid floss flounce flour flout flow
flowery flown flub fluent fluffy fluid fluke fluky flume flung flunk flurry flush flute flutist flutter flux flyby
flyover foal foam foamy focal focus fodder foggy foghorn fogy foible foil foist fold foliage folio folk folksy follow
folly foment fond fondle font food fool foolish foot footage footsie forage foray forbade forbear forbid forbore force
ford forearm forego foreign foreleg foreman foresaw forever forfeit forgave forget forgive forgot fork forlorn form
formal formula forsake forsook fort forth fortify fortune forty forum forward forwent fossil foster fought foul found
fount four foxhole foxtrot foxy foyer fracas frack fractal fragile frail frame franc frank frantic frat fraud fraught
fray freak freckle free freebie freedom freeway freeze freight french frenzy fresh fret fretful friar fridge friend
frieze frigate fright frigid frill fringe frisk fritter frizzy frock frog frolic from frond front frost froth frown
froze frugal fruit frumpy fudge fuel fugue fulcrum fulfill full fully fumble fume fund funeral fungal fungi fungus
funk funky funnel funny furious furl furlong furnace furnish furor furrow furry further furtive fury furze fuse fusion
fuss fussy fusty futile futon future fuzz fuzzy gabby gable gadget gaffe gaggle gaiety gain gainful gala galaxy gale
gall gallant galley gallon galore galosh gambit gamble game gamin gamma gamut gamy gander gang gangway gape garage
garb garbage garble garden gargle garish garland garlic garment garnet garnish garret garter gaseous gash gasket gasp
gassy gastric gate gateway gather gauche gaudy gauge gaunt gauze gauzy gave gavel gawk gawky gaze gazebo gazelle
gazette gear gecko geek geeky geese geezer gelatin gelid gender gene general genesis genetic genial genie genii genius
genre gent genteel gentle gentry genuine genus geode geology gerbil germ gerund gesture getaway getup geyser ghastly
ghost ghoul giant gibe giblet giddy gift giggle gild gill gimmick gimpy ginger gingham giraffe gird girdle girl
girlish girt girth gist give given gizmo gizzard glacial glad gladden glade glamour glance gland glare glass glaze
gleam glean glee gleeful glen glib glide glimmer glimpse glint glisten glitch glitter glitz gloat glob global globe
globule gloom glop glorify glory glossy glove glow glucose glue gluey glum glut glutton glyph gnarl gnash gnat gnaw
gnome goad goal goalie goat goatee gobble goblet goblin godlike godsend goes gofer goggle going gold golden golf golly
gonad gondola gone gong good goodbye goody gooey goof goofy gooier goon goop goose gopher gorge gorilla gorse gosh
gosling gossip gotten gouge goulash gourd gourmet gout gouty govern gown grab grace grad grade gradual graft grail
grain gram grammar grand granite granny granola grant granule graph grapple grasp grass gratify grave gravity gravy
gray grayish graze greasy great grebe greed green greet gremlin grenade grew grid griddle grief grieve grill grim
grimace grime grimy grin grind grip gripe grisly gristle grit gritty grocer grog groggy groom groove grope gross
grotto grouch ground group grouse grout grove grow growl grown growth grub grubby grudge gruel gruff grumble grumpy
grunge grunt guano guard guava guess guest guff guffaw guide guile guilt guinea guise guitar gulag gulch gulf gull
gullet gully gulp gumbo gumdrop gummy gunboat gunfire gunk gunman gunmen gunny gunshot guppy gurgle guru gush gushy
gust gusto gusty gutsy guzzle gymnast gyrate gyro habit hack hackney hacksaw haddock haft haggard haggle haiku hail
hair haircut hairdo hairnet hairy hake half halfway halibut hall hallow hallway halo halon halt halve hamlet hammock
hamper hamster hand handbag handful handgun handle handout handy hang hangar hangout hank hankie hapless happen happy
harass harbor hard harden hardy hark harm harmful harmony harness harp harpist harpoon harpy harrow harry harsh hart
harvest hasp hassle hasten hasty hatch hate hateful hatred haughty haunch haunt have haven havoc hawk haywire hazard
haze hazel hazy head headway heady health heap hear heard hearsay heart heat heaven heavy heck heckle hectic hedge
heed heel heft hefty heifer height heinous heir heiress heist held helium helix hellish hello helm helmet helot help
helpful hemline hemlock hence henna herald herb herbal hereby herein heresy heretic hermit hernia hero heroic heron
herself hertz hexagon heyday hiatus hiccup hick hickey hickory hidden hide hideous high highway hijack hike hill
hilltop hilly hilt himself hind hinge hint hippie hippo hippy hire history hitch hither hive hoary hoax hobbit hobble
hobby hobnob hobo hock hockey hogan hoist hokey hokier hokum hold holdup hole holiday holler hollow holster homage
home homier honcho hone honesty honey honk honor hood hoodlum hooey hoof hook hooky hoop hooray hoot hooves hope
hopeful horde horizon hormone horn hornet horrid horror horse hose hosiery hospice host hostile hotbed hotcake hotel
hothead hotshot hound hour house hove hovel howdy however howl hubbub hubby hubcap huddle huffy huge hula hulk hull
human humble humbug humdrum humid humor humus hunch hundred hung hungry hunk hunt hurdle hurl hurrah hurry hurt
hurtful hurtle husband hush husk husky hussy hustle hutch hybrid hydrant hyena hygiene hying hymen hymnal hype hyphen
hypo ibex ibis iceberg icebox icicle icky icon idea ideal ides idiocy idiom idle idly idolize idyllic iffy igloo
ignite ignore iguana illegal illicit image imagine imbibe imbue imitate immense immerse immoral immune impact impair
impale impart impasse impeach impede impel impend imperil impetus impinge impish implant implore import impose impound
impress imprint improve impulse impure inane inapt inborn inbox inbred inbuilt incense inch incisor incite incline
include income incur indeed indent index indict indigo indoor induce indulge inept inertia inexact infamy infant
infect infer infest infidel infield infirm infix inflame inflict influx info inform infuse ingest ingot ingrain
inhabit inhale inherit inhibit inhuman initial inject injure inkling inky inlaid inland inlay inlet inmate innards
innate input inquest inquire inroad insane insect insert inset inside insight insipid insist insofar inspect inspire
install instead instill insult insure intact intake integer intel intend inter into intrude inure invade invalid
invent invert invest invite invoice invoke involve inward iodine iota irate iris iron ironic irony island isle islet
isolate issue isthmus italic itch itchy item itemize iterate itself ivory jabot jack jackal jackdaw jacket jackpot
jade jaguar jail jalopy jamb jangle janitor japan jape jargon jaunt javelin jawbone jaywalk jazz jazzy jealous jeans
jeep jeer jeez jell jelly jerk jerky jersey jest jetty jibe jiffy jiggle jigsaw jilt jimmy jingle jinn jinni jinx
jitters jive jobless jockey jocular john join joint joist joke jolly jolt josh jostle joule journal joust jovial jowl
joyful joyous joyride joyrode jubilee judge judo juggle jugular juice juicy jukebox julep jumble jumbo jump jumpy
junco jungle junior juniper junk junket junkie junta juror jury just justify jute kale kapok kaput karma kayak kazoo
kebab keel keen keep kelp kennel kept kernel ketchup keto kettle keyhole keynote keyword khaki khan kick kickoff kicky
kiddie kiddo kidnap kidney kiln kilo kilt kimono kind kindle kindred kinfolk king kingdom kingpin kink kinship kiosk
kipper kiss kitchen kite kith kitten kitty kiwi klutz knack knave knee kneecap kneel knell knelt knew knife knit
knives knock knoll knot knotty know known knuckle koala kooky kowtow krone kudos kudzu label labia labor lace lack
lacquer lacy lade laden ladle lady ladybug laggard lagoon laid lain lair laity lake lamb lambda lame lament lamp
lampoon lance land languid lank lanky lantern lapel lapse laptop larceny larch lard large largo lark larva larynx
laser lash lass lasso last latch late latent lateral latex lath latrine lats latte lattice laud laugh launch launder
laurel lava lavish lawful lawless lawn lawsuit lawyer laxity layaway layman laymen layoff layout layover laze lazy
leach lead leaden leaf leaflet leafy league leak leakage leaky lean leap leapt learn lease leash least leather leave
lectern lecture ledge leery leeway left lefty legacy legal legend leggy legible legion legit legume leisure lemma
lemon lemur lend length lenient lens lent lentil leopard leotard leprous lesion less lesson lest letdown lethal
lettuce letup levee level lever levity levy lexical liaison liar libel liberal library lice license licit lick lief
liege lien lieu life lift liftoff light like liken lilac lilt limb limbo lime limit limn limo limp limy line linear
linen lineup linger lingo link linkage lint lion lioness lipid liquefy liquid liquor lira lire lisle lisp list listen
litany lite literal lithe lithium little liturgy live liven livid lizard llama llano load loaf loam loamy loan loath
loaves lobby lobe lobster local locate loci lock locket loco locust lode lodge loft lofty logbook loge logic login
logjam logo logon loin loiter loll long longish look lookout loom loon loop loopy loose loot lope lord lore lorry lose
loss lost lotion lottery lotto lotus loud lounge louse lousy lout love lowbrow lowdown loyal lozenge luau lucid luck
lucky lucre luggage lull lullaby lumber lump lumpy lunacy lunar lunch lung lunge lupine lupus lurch lure lurid lurk
lush luxury lymph lynx lyre lyric macabre macaw mace machete machine macho macro madam madcap madden made madman
madmen magenta magic magma magnate magnet magnify magnum magpie maiden mail mailbox mailman maim main majesty major
make makeup malady malaise malaria malice malign mall mallard mallet malt mama mambo mamma mammoth manacle manage
mandate manga mangle mango mangy manhole manhunt mania manic mankind manna mannish manor manse mansion mantel mantra
manual manure many maple marble march mare margin maria marina marital mark market markup maroon marquee marrow marry
marsh mart martin martyr marvel mascara mascot mash mask mason massage masseur massive mast mastery matador match mate
math matrix matron matte mature matzo maudlin mauve maven mawkish maxed maxes maximum maxing maybe mayday mayhem mayo
mayor maze mead meadow meager meal mealy mean meander meant measly measure meaty medal media medical medium medley
meek meet megaton meld mellow melody melon melt member meme memento memo memoir memory menace mend mental menthol
mention mentor menu meow mercury mercy mere merge merit mermaid mesa mesh message messy metal meteor methane method
metric metro mewl mica mice microbe midair midday middle middy midge midriff midst midterm midway midweek midwife mien
miff might migrate mike milch mild mildew mile mileage milf milieu militia milk milkman milky mill million mime mimic
mince mind mindful mine mineral mingle mini minibus minimal minion minivan mink minnow minor mint minty minuet minus
minute minx miracle mirage mire mirror mirth misdeed misdo misery misfit mishap mislay misled misread miss missile
misstep mist mistake mistook misty misuse mitt mitten mixture moan moat mobile mocha mock mockery modal mode model
modem modern modesty modicum modify module mogul mohair moire moist molar mold moldy mole mollify mollusk molt molten
moment mommy monarch money mongrel monies moniker monitor monk monkey mono monsoon monster montage month mooch mood
moody moon moonlit moor moose moot mope moral morass moray morbid more morgue morn morose morsel mortal mortify mosaic
mosey moss mossy most mote motel moth motif motion motive motley motlier motor mottle motto mound mount mourn mouse
mousy mouth move movie much muck mucky muddle muddy muff muffin muffle mufti muggy mulch mule mull multi mumble
mummify mummy mumps munch mundane mural murk murky murmur muscle muse museum mush mushy music musk musket musky muss
mussy must mustang musty mutant mutate mute mutiny mutt mutton mutual muzzle myna myopic myriad myrrh myself mystery
mystic myth nabob nacho nacre nadir naiad nail naive naked name nanny nape napkin nappy narc nark narrate narrow nary
nasal nasty natal nation native natty nature naughty nausea naval nave navy near nearby neat neath nebula neck necktie
nectar need needle needy negate neglect neigh neither neon nephew nerd nerdy nerve nervous nervy nest nestle nether
nettle network neural neuron neutral never newbie newborn newel newsy newt newton next nexus nibble nice nicety niche
nick nickel niece nifty nigh night nimbi nimble nine ninety ninja ninny ninth nippy nitrate nitwit noble nobly nobody
nodal noddy node noel noes noise noisy nomad nominal nonce none nonfat nonplus nonstop noodle nook noon noose nope
norm normal north nose nosh nostril nosy notably notch note nothing notice notify notion nougat noun nourish nous nova
novae novel novice noway nowhere noxious nozzle nuance nuclear nudge nugget nuke null nullify numb numeral nuptial
nurse nurture nutmeg nutty nuzzle nylon nymph oaken oakum oases oasis oaten oath oatmeal obelisk obese obesity obey
obit object oblige oblique oblong oboe obscene obscure observe obsess obtain obtuse obvious occult occupy occur ocean
ocher octagon octal octave octet octopus ocular oddity odious odium odor odyssey offal offbeat offend offhand office
offload offset often ogle ogre oily oink okay okra olden oldie oleo olive omega omelet omen ominous omit omnibus once
onerous oneself onetime ongoing onion onrush onset onto onus onward onyx oodles oops ooze opal opaque open operate
opine opinion opossum oppose oppress optic optimal option opulent opus oracle oral orange orate oration orator orbit
orchard orchid ordain ordeal order ordinal organ orient orifice origin oriole ornate orphan osier osmosis ostrich
other otter ouch ought ounce oust outage outback outbid outcast outcome outcry outdid outdo outfit outgo outgrew
outlaw outlet outline outlook outpost output outrage outrun outset outside outward outwit oval ovary ovation oven over
overall overdue overeat overjoy overlap overran oversaw overt overuse ovoid ovule ovum owlet oxbow oxen oxide oxidize
oxygen oyster ozone pace pacify pack package packet pact paddle paddock padlock padre paean page pageant pagoda paid
pain painful paint pair pajamas palace palate pale pall pallid pallor palm palmy palsy paltry pamper panacea pancake
panda pander panel pang panic pant panther pantry papa papaya paprika papyri parade paragon parasol parcel parch
pardon parent parish parity park parka parkway parlor parody parole parquet parrot parry parsley parsnip parson part
partake partial partner partook partway party pasha passage passion past pasta paste pastime pastor pastry pasture
pasty patch pate patent path pathos pathway patient patio patriot patrol patsy pattern patty paucity paunch pauper
pause pave pawl pawn payday payee payload payment payoff payroll peace peach peak peal peanut pearl peasant peat
pebble pecan peck pedal pedant peep peeve peevish pekoe pelican pellet pelt pelvis penalty penance pence pencil
pendant pended pending pends penguin pennant penny pension pent peony people peppy percent perch perfect perform
perfume perhaps peril period perjure perk perky perm permit perplex persist person pert pertain perturb peruse pervade
pesky peso pest petite petrify petrol petty petunia pewee pewter phallic phantom phase phial phish phlegm phlox phobia
phoenix phone phony phooey photo phrase phyla physic pianist piano pica piccolo pick pickax picket pickle pickup picky
picnic picture piddle pidgin pierce piety pigeon piggish piggy piglet pigment pigpen pigsty pigtail pike pilaf pile
pileup pilfer pilgrim pill pillar pillow pilot pincer pinch pine ping pinion pink pinkie pint pinto pinup pioneer
pious pipe pipit piquant piracy piranha pirate pistol pita pitch piteous pitfall pith pithy pitiful piton pity pivot
pixel pixie pizza placard place placid plague plaice plaid plain plan planar plank plant plaque plasma plastic plate
platoon platter play playboy playful playoff playpen plaza plea plead please pleat pledge plenary plenty pliable
pliant pliers plight plod plop plot plow ploy pluck plug plum plumage plume plummet plump plunder plunge plunk plural
plus plush plywood poach pock pocket podium poem poesy poet poetic poetry point poise poison poke pokey poky polar
polemic police polish polite polka poll pollen pollute polo polygon polymer polyp pomp pompous poncho pond pone
pontiff pontoon pony pooch poodle pooh pool poor popcorn poplar poppa poppy popular porch pork porous port portal
portend portion portray pose posh posit posse possum post postal postbox postdoc postman posture postwar posy potato
potent pothole potion potluck pottery potty pouch poultry pounce pound pout poverty powder power powwow prairie praise
pram prance prank prate prattle prawn pray preach precede precise predate predict preempt preen preface prefer prefix
prelude premise prep prepare preppy presage present preside press presto presume pretend pretty pretzel prevail
prevent preview prewar price pricier pride prig prim primary prime primp prince print prior prism prison prissy
private privy prize probe problem process procure prod prodigy produce prof profane profess profit profuse progeny
program project prolong prom promise promote prompt prone prong pronoun pronto proof prop propel propose prosaic prose
prosper prosy protect proton proud prove provide provoke prow prowess prowl proxy prude prudish prune pseudo pshaw
psych public puck pudding puddle pudgy pueblo puerile puff puffy pull pulley pullout pulp pulpit pulpy pulsate pulse
puma pumice pummel pump pumpkin punch pundit pungent punish punk punt puny pupa pupae pupal pupil puppet puppy pure
puree purge purify purist purity purple purpose purr purse pursue purvey push pushy putrid putt putty puzzle pygmy
pylon pyramid pyre python quack quad quaff quail quaint quake qualify qualm quantum quark quarry quart quash quasi
quaver quay queasy queen quell quench query quest queue quibble quiche quick quid quiet quill quilt quinine quintet
quip quirk quit quite quiver quiz quizzes quoit quorum quota quote quoth rabbit rabble rabid raccoon race racist rack
racket radar radial radical radii radio radish radius radon raffle raft raga rage ragtag ragtime raid rail railway
rain rainbow rainy raise raisin rajah rake rally ramble ramp rampant ramrod ranch rancor random rang range rangy rank
rankle ransack ransom rant rapid rapport rapt rapture rare rarity rascal rash rasp raspy raster rate rather ratify
ratio rattle ratty raucous ravage rave ravel raven ravine rayon razor razz reach react read ready real reality realm
realty ream reap rear rearm reason rebate rebel rebind rebirth reborn rebound rebuff rebuild rebuke rebus rebut recall
recant recap recede receive recent recess recipe recite reckon reclaim recline recluse recoil record recoup recover
recruit rectify rector recur recycle redden reddish redeem redhead redid redneck redo redone redraw redress reduce
redwood reedy reef reek reelect reenact reentry reeve referee refill refine refit reflect reform refrain refresh
refuel refuge refund refuse refute regain regal regard regatta regent reggae regime region regret regroup regular
rehab rehash reissue reject rejoin relaid relapse relate relax relay release relent reliant relic relief relish relive
reload rely remade remain remake remark remedy remind remiss remit remnant remodel remorse remote remove renal rename
rend renege renew renown rent rental reopen reorg repair repay repeat repel repent replace replete replica report
repose repress reprint reprove reptile repulse repute request require reran reread reroute rerun resale rescind rescue
resent reserve reset reside resign resin resist resolve resort resound respect respite respond rest restart restful
restive restore result resume retain retake retch rethink retina retire retook retort retract retreat retrial retrod
retry return retype reunion reuse revalue revamp reveal revel revenge reverse review revile revise revive revoke
revolt reward rewind rework rewound rewrite rewrote rhea rheum rhino rhubarb rhyme rhythm ribald ribbon rice rich rick
rickety ridden riddle ride ridge rife riff rifle rift right rigid rigor rile rill rime rind ring ringlet rink rinse
riot riotous ripe ripen riposte ripple rise risen risk risky ritual ritzy rival riven river rivet roach road roadway
roam roan roar roast robbery robe robin robot robust rock rocket rocky rodent rodeo roger rogue roguish roil role
rollick roman romp rood roof rooftop rook rookie room roomful roomy roost root rope rose rosin roster rostrum rosy
rotary rotate rotor rotten rotund rouge rough round rouse rout routine rove rowboat rowdy rowel royal rubbery rubbish
rubble rubdown rube ruble rubric ruby ruckus rudder ruddy rude rueful ruffian ruffle rugby ruin ruinous rule rumba
rumble rummage rummy rumor rump rumple runaway rundown rune rung runny runt runway rupee rupture rural ruse rush rusk
rust rustic rustle rusty saber sable sack sacred sadden saddle sadist safari safe safety saffron saga sage sago sahib
said sailor saint saith sake salad salami salary sale salient saliva sallow salmon salon saloon salsa salt salty
salute salvage salve salvo samba same sample sand sandal sandbag sandman sandy sane sang sanity sank sans sapling
sappy sarcasm sardine sari sash sass sassy satay satchel sate satin satire satisfy satyr sauce saucy sauna saunter
sausage save savior savor savvy sawdust scab scad scalar scald scale scallop scalp scaly scam scamp scan scandal scant
scar scarce scare scarf scarlet scarves scary scat scenic scepter scheme schism scholar school schwa science scion
scissor scoff scold scone scoop scoot scope scorch score scorn scotch scour scout scow scowl scram scratch scrawl
scream screen scribe scrimp script scrod scroll scrooge scrub scruff scruple scuba scud scuff scull scum scurf scurry
scuttle scythe seafood seal seaman seamen seamy seaport sear search seasick season seat seaweed secede seclude second
secret secs sect section sector secular secure sedan sedate sedge seedy seek seem seen seep seepage seesaw seethe
segment segue seize seizure seldom select self selfish sellout selves semi seminar senate send senile senior senna
sense sentry sepal sepia septa sequel sequin sequoia serene serge serial series serious sermon serpent serum servant
serve service servo session setback settle setup seven severe sewage sewn shabby shack shad shade shadow shady shaft
shag shaggy shah shake shaky shale shall shalt sham shamble shame shampoo shank shanty shape shard share shark sharp
shatter shave shawl sheaf shear sheave sheen sheep sheet shelf shelter shelve sherbet sheriff sherry shield shift
shill shim shin shine shingle shinny shiny ship shire shirk shirr shirt shiver shoal shock shod shoddy shoe shook
shoot shop shore short shot shotgun should shout shove show showbiz showman shown showy shrank shred shrew shriek
shrill shrimp shrine shrivel shroud shrub shrug shrunk shuck shudder shuffle shun shunt shush shut shuteye shuttle
shyster sibling sibyl sick sicken sickle side sidle siege sierra siesta sieve sift sigh sigma sign signal signify
silent silicon silk silken silky sill silly silo silt silver similar simper simple since sinew sinful sing singe
single sink sinus siphon sire siren sirloin sisal sister sitar sitcom site situ situate sixteen sixth sixty size
sizzle skate skeet skein skeptic sketch skew skid skiff skim skimp skin skinny skip skirt skit skulk skull skunk
skydive skyline slab slack slain slake slalom slam slander slang slant slap slash slat slate slather slavish slaw slay
sled sleek sleep sleet sleeve slender slept sleuth slew slice slick slid slide slight slim slime slimy sling slink
slip slit slither sliver slob sloe slog slogan sloop slop slope sloppy slosh slot sloth slouch slow sludge slug sluice
slum slumber slump slung slunk slur slurp slush smack small smart smash smear smell smelt smidgen smile smirk smite
smith smitten smock smog smoggy smoke smoky smolder smooch smooth smote smother smudge smug smuggle snack snafu snag
snail snake snaky snap snappy snare snarl snatch snazzy sneak sneer sneeze snicker snide sniff snip snipe snippet snit
snob snobby snooker snoop snooty snooze snore snorkel snort snotty snout snow snowman snowy snub snuff snug snuggle
soak soap soapy soccer social society sock socket soda sodden sodium sofa soft soften softy soggy soil sojourn solace
solar sold soldier sole solemn solicit solid solo soloist soluble solve somber some someday somehow someone someway
sonar sonata song sonic sonnet sonny soon soot soothe sooty soppy soprano sorbet sorcery sordid sore sorrow sorry sort
sought soulful sound soup soupy sour source souse south sown soybean space spacial spade spake spam span spangle
spaniel spank spar spare spark sparrow spasm spat spate spatial spatula spawn speak spear spec special speck specter
sped speech speed spell spend spent spew sphere sphinx spice spicy spider spiel spiffy spigot spike spiky spill spin
spinal spindly spine spiny spiral spire spirit spit spite spittle splash splat splay spleen splice splint split
splurge spoil spoke sponge sponsor spoof spook spool spoon spore sporran sport spot spotty spouse spout sprain sprang
sprat sprawl spray spread spree sprig spring sprout spruce sprung spry spud spume spun spunk spur spurn spurt sputter
squab squad squall square squash squat squawk squeak squeeze squelch squid squint squire stab stable stack stadium
staff stag stage staid stain stair stake stale stalk stall stamina stammer stamp stance stand stank stanza staph
staple star starch stardom stark starry start starve stash state station stats status staunch stave stay steady steal
steam steed steep steer stein stellar stem stench stent step stepson stereo stern stew steward stick stiff stifle
stigma still stilt stimuli sting stink stint stipend stir stirrup stitch stoat stock stodgy stoical stoke stole stolid
stomach stomp stone stony stood stool stoop stop stopgap storage store stork storm story stout stove stow strain
strange strap strata straw stray stream street strep stress stretch strew strict stride strife strike string stripe
strive strode stroke stroll strong strop strove struck strum strung strut stub stubby stuck stud student studio study
stuff stumble stump stun stung stunk stunt stupefy stupid stupor stutter style stylish stylus stymie suave subdue
subject sublet sublime submit subset subside subtle suburb subvert subway succeed succor succumb such suck suckle
suction sudden suds sudsy suede suet suffer suffice sugar suggest suit suite suitor sulfur sulk sulky sullen sully
sultan sultry sumac summary summery summit summon sumo sump sunburn sundae sundial sundown sundry sung sunk sunken
sunlit sunny sunrise sunset suntan sunup superb supply support supreme sure surf surface surgery surmise surname
surpass surplus surreal survey survive sushi suspect sustain swab swag swain swallow swam swami swamp swan swap sward
swarm swarthy swash swat swatch swathe sway swear sweat sweep swell swelter swept swerve swift swig swill swim swindle
swine swing swipe swirl swish switch swivel swollen swoon swoop sword swore sworn swum swung sylph symbol symptom
synapse sync synod synonym syntax syringe syrup system tabby table tabloid taboo tacit tack tackle tacky taco tact
tactful tactic tadpole taffy tail tailor taint take taken takeoff talc talent talk tall tallow talon tame tamp tandem
tang tangent tangle tango tangy tank tankard tansy tantrum tape tapir tardy tare target tariff tarmac tarnish taro
tarot tarp tarry tart tartan taser task tassel taste tasty tattle tattoo tatty taught taunt taupe tavern tawdry tawny
taxi taxicab teach teacup teak teal team teapot tear tearful teargas teary tease techs tedious tedium teen teenage
teeny teeter teeth tell temp temple tempo tempt tenant tend tendon tendril tenet tennis tenor tense tension tent tenth
tenuous tenure tepee tepid tequila term termini tern terrace terrify terse test testify testy tether text textile
textual than thank that thatch thaw theater thee theft their theist them theme then thence theory therapy thermal
these thesis theta they thick thief thieve thigh thimble thin think third thirst thirty this thistle thong thorn those
thou though thrash threat three thresh threw thrice thrift thrill thrive throat throb throne throw thru thrust thud
thug thumb thunder thus thwart thyroid tiara tick ticket tickle tidal tidbit tide tidy tiff tiger tight tilde tile
till tilt timber time timid tinder tine tinfoil ting tinge tingle tinker tinkle tinny tinsel tint tiny tipsy tiptoe
tirade tire tissue title tizzy toad toast tobacco today toddle toehold toenail toffee tofu toga toggle toil toilet
toke token told toll tomato tomb tomboy tomcat tome tonal tone tong tongue tonic tonight tonnage tonne tonsil tony
took tool toolbar toolkit toot tooth topaz topic topple torch tore torment torn tornado torque torrent torrid torso
tort toss total tote totem toucan touch tough toupee tour tourist tousle tout toward towel town toxic toxin trace
track tract trade traffic tragedy tragic trail train trait tram trance transit trap trash trauma travel trawl tray
treacle tread treason treat treble tree treetop trek trellis tremble tremor trench trend trestle trial tribal tribe
tribute triceps trick trident trifle trig trike trill trilogy trim trinity trinket trio trip tripe triple tripos trite
triumph trivial trod trodden trolley troop trophy tropic trot trouble trough trounce trouser trout trowel troy truant
truce truck trudge true truffle truism trumpet trundle trunk trust truth tryout tuba tubby tube tubular tuck tuft
tugboat tuition tulip tumble tummy tumult tuna tundra tune tuneful tunic tunnel turban turbine tureen turf turgid
turkey turmoil turn turnip turnout turret turtle tush tusk tussle tutor tutu tuxedo twang tweak twee tweet twelfth
twelve twenty twerp twice twiddle twig twin twine twinge twinkle twirl twist twitch tycoon tyke type typeset typhoon
typical typify typist typo tyrant tyro udder ugly ulcer ulna ultra umpire umpteen unable unaided unarmed unaware
unblock unborn uncanny unclear uncouth uncover uncut under undid undo undone undress undue undying unearth uneasy
unequal uneven unfair unfit unfold unfunny unfurl ungodly unhappy unheard unholy unhook unicorn uniform unify union
unique unison unit unite unity unjust unkempt unkind unknown unleash unless unlike unload unlock unlucky unmask
unmoved unnamed unnerve unpack unpaid unpick unplug unravel unread unrest unroll unruly unsafe unsaid unsay unseat
unseen unset unsound unstuck unsung unsure untidy untie until unto untold untried untrue untying unused unusual unveil
unwary unwell unwind unwise unwound unwrap unzip upbeat upchuck update upend upfront upgrade upheld uphill uphold
upkeep uplift upload upon upper upright uproar uproot upscale upset upshot upside upstart upsurge upswing uptake
uptight uptown upturn upward uranium urban urchin urea urge urgent uric usage useful useless usher usual usurp utensil
utility utmost utopia utter vacancy vacate vaccine vacuous vacuum vagary vagrant vague vain valet valiant valid valise
valley valor value valve vampire vandal vanilla vanish vanity vape vapor variant variety various varnish varsity vary
vase vast vault veal vector veep veer vegan veggie vehicle veil veld velour velvet vend vendor veneer venison venom
vent venture venue veranda verb verbal verbose verdict verge verify vermin verse version versus vertigo verve very
vessel vest vestige veteran veto viaduct vibe vibrant vicar vice vicious victim victory video view vigil vigor vile
vilify village vine vinegar vintage vinyl viol violate violent violin viper viral virile virtue virus visa visage
viscous visible vision visit visor vista visual vital vitamin viva vivid vocal vodka vogue voice void volcano vole
volley volt voltage volume voodoo vortex vote vouch vowel voyage vulgar vulture wacky waddle wade wadi wafer waffle
waft wage wagon waif wait wake waken wale walk walkout wall wallet wallop walnut walrus waltz wand wane wannabe want
wanton warble ward warden warfare warhead warlike warlock warm warmth warn warp warpath warrant warren warrior warship
wart wartime wary wash washout wasp wastage waste watch water watt wave wavy waxy waylay wayside wayward weaken weal
wealth wean weapon wear weary weasel weather weave website wedge wedlock weedy week weekday weekend weep weft weir
weird welcome weld welfare well welsh welt wend went wept were west western whack whale wham wharf wharves what wheat
wheedle wheel wheeze when whence whet whew whey which whiff while whilst whim whimper whinny whip whir whirl whiskey
whisper whistle white whittle whiz whizzes whoa whoever whom whoop whoosh whopper whose wick wicket wide widen widow
width wield wiener wife wiggle wigwam wiki wild wildcat will willful willow wilt wily wimp wimpy wince winch wind
window windy wine wing wingtip wink wino winsome winter wintry wipe wire wiretap wiry wisdom wise wish wishful wisp
wispy wist wistful with within without witless witty wizard wizened wobble woke woken wolf wolves woman wombat women
wonder wont wooden woody woof wool woolen woozy word wordy wore work workman workout world worm worry worse worship
worst worth would wound wove woven wrangle wrap wrath wreath wreck wren wrench wriggle wrinkle wrist writ writhe
written wrong wrote wrought wuss yacht yank yard yarn yawl yawn yeah year yearn yeast yell yellow yelp yest yeti yield
yippee yodel yoga yogi yogurt yoke yokel yonder young your youth yowl yule yummy yuppie zany zeal zealous zebra zebu
zenith zero zest zeta zigzag zillion zinc zing zodiac zombie zone zoology zoom
`)
})
