"""How English says that nothing is to change, and what it wants done."""

from rpo_cli.stages.tongues.tongue import Tongue

_NOUN = (
    r"(?:changes?|edits?|editing|modifications?|adjustments?|alterations?|corrections?|improvements?|"
    r"fix(?:es)?"
    r"|fixing|revisions?|retouch(?:es|ing)?|tweaks?|amendments?|updates?|refinements?|interventions?|"
    r"actions?"
    r"|work|instructions?|suggestions?|recommendations?|feedback|enhancements?|touch-?ups?|additions?"
    r"|removals?|polishing|rework(?:ing)?|processing|complaints?|flaws?|issues?|problems?|errors?|"
    r"mistakes?"
    r"|defects?|discrepanc(?:y|ies)|mismatch(?:es)?|deviations?|differences?|inconsistenc(?:y|ies)"
    r"|inaccurac(?:y|ies)|faults?|shortcomings?|concerns?|need|reason|deficienc(?:y|ies)|"
    r"imperfections?)\b"
)
_VERB = (
    r"(?:chang(?:e|es|ed|ing)|edit(?:s|ed|ing)?|modif(?:y|ied|ying)|adjust(?:ed|ing)?|alter(?:ed|ing)?"
    r"|correct(?:ed|ing)|improv(?:e|ed|ing)|fix(?:ed|ing)?|tamper\w*|mess(?:ed|ing)? with|mend(?:ed|ing)?"
    r"|updat(?:e|ed|ing)|tweak(?:ed|ing)?|rework(?:ed|ing)?|refin(?:e|ed|ing)|enhanc(?:e|ed|ing)|faulted?"
    r"|revis(?:e|ed|ing)|retouch(?:ed|ing)?|replac(?:e|ed|ing)|amend(?:ed|ing)?|suggest(?:ed)?|"
    r"repair(?:ed)?"
    r"|rectif(?:y|ied)|add(?:ed|ing)?|remov(?:e|ed|ing)|touch(?:ed|ing)? (?:the (?:image|picture)|it|"
    r"any\w*)"
    r"|intervene|better(?:ed)?|anything|a thing)\b"
)
_WORK = (
    r"(?:change|edit|modify|alter|adjust|do|fix|correct|touch|remove|add|improve|replace|move|update|"
    r"retouch"
    r"|enhance|revise|mend|repair|amend|tweak|rework|apply|make|perform|request|suggest|recommend|"
    r"propose)"
)
_LEAD = (
    r"(?:(?:please|just|simply|overall|honestly|currently|therefore|thus|hence|here|well|ok|okay|"
    r"in short|in"
    r" (?:my )?(?:summary|conclusion|opinion|view)|continue to|i'd|i would|we would|we'd|i(?:'d|"
    r" would)? (?:think|believe|feel|guess|say)(?: that)?|it (?:seems|appears|looks"
    r" like)|as far as i can (?:see|tell)|that|other than that|apart from that|aside from that|"
    r"besides that)\s+)*"
)
_SAYS = (
    r"(?:(?:the|this|that|these|those|all|both|its?|it's|your|every\w*|each|they|i|i'd|i've|we|you|there|"
    r"there's|which|image|picture|photo|as)\b[^;]{0,60}?\s)?"
)
_PRAISE = (
    r"(?:perfect(?:ly)?|fine|good|great|correct(?:ly)?|accurate(?:ly)?|right|ok|okay|complete|ideal|"
    r"excellent"
    r"|faithful|satisfactory|acceptable|flawless|impeccable|spot[- ]on|as (?:it )?(?:is|was|were|"
    r"requested|"
    r"described|asked|specified|intended|expected|prompted|desired|wanted|should be|it should be)|"
    r"in (?:line|order|"
    r"accordance|agreement|place)|consistent|well|present|met|satisfied|fulfilled|followed|unchanged|"
    r"true|"
    r"matching|beautiful|lovely|wonderful|there|enough|sufficient|suitable|appropriate)\b"
)
_ADVERB = (
    r"(?:(?:already|fully|now|clearly|perfectly|very|quite|completely|accurately|all|really|also|exactly|"
    r"well"
    r"|closely|faithfully|still|both|just|absolutely|entirely|correctly|pretty|looking|indeed|nicely|"
    r"truly|"
    r"precisely|generally|overall|to be|both|equally|totally|good and|otherwise|fine and|in|so)\s+)*"
)
_ASIS = (
    r"(?:as[- ](?:it|they|he|she|that|is|are|shown|given)|alone|un\w+|intact|the same|identical|the way|"
    r"like"
    r" (?:this|that|it)|how (?:it|they|he|she|things)|be\b|everything|all\b|constant)"
)
_NO_MODAL = r"(?![^;]*\b(?:should|must|ought|needs? to|could|would be)\b)"
_IMPERATIVE = (
    r"(?:add|adjust|align|alter|apply|arrange|attach|balance|blend|blur|bring|brighten|build|center|"
    r"centre|"
    r"change|clean|clear|close|colou?r|colou?rize|complete|connect|convert|copy|correct|cover|create|"
    r"crop|cut|"
    r"darken|decrease|delete|depict|desaturate|dim|display|double|draw|dress|drop|duplicate|edit|enhance|"
    r"enlarge|ensure|erase|exchange|expand|extend|fill|fix|flip|fold|give|have|hide|highlight|improve|"
    r"include|"
    r"increase|insert|introduce|lay|lengthen|let|lift|light|lighten|lower|make|mask|merge|mirror|modify|"
    r"move|"
    r"narrow|open|orient|paint|pan|place|point|pose|position|push|put|raise|recolou?r|redo|redraw|reduce|"
    r"refine|"
    r"remove|rename|render|reorient|repaint|replace|reposition|reshape|resize|restore|reverse|rewrite|"
    r"rotate|"
    r"saturate|scale|separate|set|shape|sharpen|shift|shorten|show|shrink|simplify|slim|smooth|soften|"
    r"spell|"
    r"split|spread|stack|straighten|strengthen|stretch|style|substitute|swap|switch|take|thicken|thin|"
    r"tilt|tint|"
    r"tone|transform|translate|trim|turn|twist|unify|update|use|warm|widen|wrap|write|zoom)\b"
)
ENGLISH = Tongue(
    split=r"\b(?:but|and|so|because|since|however|while|although|though|then|yet|hence)\b"
    r"|(?=\b(?:except|unless)\b)|(?=\b(?:other than|apart from|aside from|with the exception|"
    r"save for)\b)",
    nothing=(
        # no changes are needed; I see no issue; make no edits; the picture needs no further work
        rf"{_LEAD}{_SAYS}(?:{_WORK}\s+|needs?\s+|has\s+|have\s+|see\s+|with\s+)?(?:absolutely\s+)?"
        rf"(?:no|zero|without|hardly any)[\s-]+(?:[\w'-]+\s+){{0,4}}?{_NOUN}",
        # do not change anything; it doesn't need to be edited; I wouldn't alter it; I cannot find any flaw
        rf"{_LEAD}{_SAYS}(?:do\s+|does\s+|to\s+)?(?:not|never|cannot|"
        rf"[a-z]+n't)\s+(?:[\w'-]+\s+){{0,5}}?(?:{_NOUN}|{_VERB})",
        rf"{_LEAD}(?:no need|no reason|not necessary|unnecessary|needless)\b",
        # nothing to change, nothing is wrong, change nothing
        rf"{_LEAD}{_SAYS}nothing\b(?:\s+(?:else|more|further|here|that|really|(?:in|about|on|of)"
        r"\s+(?:\w+\s+)?\w+))*\s+"
        r"(?:to\b|i\b|i'd|(?:needs?|has|have|must|should|is|was|would|seems?|requires?|stands?|comes?|"
        r"looks?|can)\b[^;]*?"
        rf"(?:{_VERB}|{_NOUN}|done|wrong|amiss|missing|off|out of place|needed|required|necessary|to\b))",
        rf"{_LEAD}nothing(?: else| more| further| needs doing)?$",
        rf"(?:ensure|make sure|see to it|take care)(?: that)?\s+(?:nothing\b[^;]*?(?:{_VERB}|{_NOUN}|"
        rf"\blost|"
        rf"different)|(?:it|the|this|every\w*|"
        r"all)\b[^;]*?\b(?:stays?|remains?|is kept"
        r"|are kept|unchanged|as it is)\b)",
        r"(?:it|this|that|the|everything)\b[^;]{0,40}?\b(?:does|is|shows|has|contains)\s+(?:exactly\s+|"
        r"precisely\s+|everything\s+|all\s+|just\s+)*"
        r"(?:what|that)\b[^;]*\b(?:ask|request|describ|want|prompt|specif)\w*",
        rf"{_LEAD}{_WORK}\s+(?:absolutely\s+)?nothing\b(?!\s+(?:by|with)\b)",
        # none of it needs to be changed
        rf"(?:no|none|neither|nobody|not one|not a single)\b[^;]*\b(?:needs?|has|have|requires?|must|"
        rf"should|is|are)\b[^;]*?(?:{_VERB}|{_NOUN})",
        rf"{_LEAD}{_SAYS}(?:checks? out|suffices?|holds? up|stands?|passes|nails it|delivers|"
        rf"hits the mark)\b",
        r"(?:the|this|that|your|all|every\w*|it)\b[^;]*\b(?:has|have|is|are|was|"
        r"were) (?:been )?(?:\w+ly )?\w+ed "
        r"(?:correctly|accurately|faithfully|well|perfectly|properly|exactly|nicely)\b",
        # further edits are not needed
        r"(?:(?:any|further|more|additional|other|major|the)\s+)*(?:changes|edits|editing|modifications?|"
        r"adjustments?|alterations?|corrections?|improvements?|fixes|revisions?|tweaks|updates|"
        r"retouching|"
        r"refinements?|interventions?|actions?)\s+(?:[^;]{0,30}?\s)?(?:is|are|would be|seems?|"
        r"appears?)\s*(?:n't|\w+\s+"
        r"not|not|un\w+|needless|superfluous|redundant|optional|pointless)",
        r"(?:(?:any|further|more|additional|other)\s+)*(?:changes|edits|editing|modifications?|"
        r"adjustments?)\s+(?:is|are)n't",
        # keep it, leave it as it is, it may stay so
        rf"{_LEAD}(?:let's\s+|(?:we|you|i|one) (?:should|can|could|would|may|might|will|"
        rf"must)\s+)?(?:keep|retain|preserve|maintain|(?:stick|stay|go|proceed) (?:with|to) (?:it|this|"
        rf"the (?:current|existing|original|present|"
        r"given|same))|save (?:it|the (?:image|picture|photo)))(?:ing)?\b(?![^;]*\b(?:only|just|single|"
        rf"one|two|three|"
        r"four|away|apart|out|less|more|fewer|than|greater|larger|bigger|wider|closer|further|higher|"
        r"smaller|softer|within|under|inside|free|clear|most|least|limited|to a|visible)\b)",
        rf"{_LEAD}{_SAYS}(?:leave|leaving)\b[^;]*?\s{_ASIS}",
        r"let (?:it|everything|this|(?:the )?(?:image|picture|photo))\b[^;]*?\b(?:be(?: as| left| kept|"
        r"$)|stay|remain|"
        r"stand|as (?:it|is))\b",
        rf"{_LEAD}{_SAYS}(?:stays?|remains?|be (?:kept|left|retained|preserved|maintained))\b",
        r"(?:use|return|output|accept|submit|deliver|approve|take|send|give|reuse|"
        r"show)\b(?: back)?\s+(?:it|(?:the|this)\s+"
        r"(?:(?:same|original|given|current|existing|input|provided|source|unedited|unmodified|"
        r"generated)\s+)*(?:image|picture|photo|"
        r"original|one|input|version))(?:\s+(?:exactly\s+)?(?:as[- ](?:it|is)\b|un\w+|without\b|again\b|"
        r"back\b|as (?:final|finished|complete|correct))[^;]*)?$",
        rf"(?:refrain from|avoid|skip|stop)\s+(?:[\w'-]+\s+){{0,3}}?(?:{_NOUN}|{_VERB})",
        # it matches already, all is well
        rf"{_LEAD}{_NO_MODAL}(?:matches|fits|follows|meets|satisfies|complies|conforms|corresponds|"
        rf"fulfils|{_SAYS[3:-2]}{_ADVERB}(?:match(?:es|ed)?|fits?|"
        rf"follows?|meets?|satisf(?:y|ies)|corresponds?|aligns?|"
        r"reflects?|adheres?|conforms?|complies|comply|agrees?|fulfil\w*|works? (?:well|fine|perfectly)|"
        r"does (?:its|the) job))\b",
        rf"{_LEAD}{_SAYS}(?:accurately|correctly|faithfully|perfectly|exactly|beautifully)\s+"
        r"(?:depict|portray|represent|captur|show|render|convey|illustrat)\w*",
        rf"{_LEAD}{_NO_MODAL}{_SAYS}(?:[\w' -]{{1,40}}?\s)??(?:is|are|'s|looks?|seems?|appears?|was|were|"
        rf"has been|have been)\s+{_ADVERB}{_PRAISE}"
        r"(?! (?:of|to the|side|hand|half|too|but)\b)",
        rf"{_LEAD}(?:it|that|everything|all)'s\s+{_ADVERB}{_PRAISE}",
        r"(?:everything|all)\b(?![^;]*\b(?:too|wrong\w*|missing|not|\w+n't|blurr\w*|absent|lost|cut|"
        r"crop\w*|distort\w*|should|must|instead|one|hardly|un\w+)\b)[^;]*\b(?:is|are|has been|have been|"
        r"looks?|seems?)\b",
        r"already\b|(?:fully|perfectly|completely|exactly|closely|entirely)\s+(?:matches|meets|fits|"
        r"follows|satisfies|reflects|fulfil\w+|correct|"
        rf"accurate|as\b)|(?:image|picture|photo|result|prompt)\s+{_ADVERB}(?:{_PRAISE}|matches|meets|"
        rf"matched|fulfilled|done)",
        r"(?:any|every|each|all)\s+(?:\w+\s+)?(?:changes?|edits?|modifications?|adjustments?|"
        r"corrections?)\s+(?:would|might|could|will|can|may)\b",
        rf"{_LEAD}(?:any |further |more |additional |all |every )*[\w ]{{0,20}}?(?:\w+ing|changes?|"
        rf"edits?|adjustments?|"
        r"modifications?|alterations?|interventions?|tweaks?)\b[^;]{0,30}? (?:would|could|might|will|"
        r"can|may) (?:\w+ )?"
        r"(?:be (?:\w+ )?(?:counter-?productive|\w*necessary|redundant|superfluous|harmful|worse|"
        r"needless|overkill|"
        r"pointless|detrimental|a mistake|wrong|excessive)|harm|worsen|degrade|damage|spoil|ruin|"
        r"detract|diminish|hurt)",
        r"(?:hold|freeze)\b[^;]*\bas (?:it|they) (?:is|are)\b|[^;]{0,40}\b(?:needs?|requires?|lacks?|"
        r"misses) nothing\b",
        rf"{_LEAD}(?:(?:the|this|that|these|those|all|both|its?|every\w*|they|there)\b)[^;]*\balready\b",
        r"(?:i|we)(?:'m|'re| am| are)\s+(?:\w+\s+)?(?:satisfied|happy|content|pleased)\b",
        r"(?:i|we)(?:'d| would)?\s+(?:approve|accept)\b",
        r"(?:the\s+)?(?:prompt|description|request)\b[^;]*\b(?:satisfied|met|fulfilled|followed|"
        r"respected)\b",
        # a word or two
        r"hands off\b",
        r"(?:-+|none|n/?a|nil|null|nothing|no|nope|unchanged|no-?op|pass|skip|empty|approved?|"
        r"accept(?:ed)?|done|same|as(?:-| )is"
        r"|not (?:applicable|needed|necessary|required)|unnecessary|all (?:good|right|set|clear|fine|"
        r"correct|well|ok)|looks? "
        r"(?:good|great|fine|perfect|right)|well done|(?:nice|good|great|perfect|excellent) (?:match|job|"
        r"work|result)"
        rf"|{_PRAISE})(?:\s+(?:as (?:is|it is|it stands)|already|here|needed|required|necessary|at all|"
        rf"thanks?|thank you|to me|"
        r"indeed|work|job|image|picture|match))*$",
    ),
    doing=r"(?:(?:please|just|only|then|also|instead|maybe|perhaps|(?:you|one|we|i) (?:should|could|can|"
    r"may|might|would)|let's"
    r"|try to|consider|could you|i(?:'d| would)(?: (?:suggest|recommend|like))?|it would)\s+)*(?:"
    + _IMPERATIVE
    + r"|adding|making|removing|changing|moving|consider\w*|(?:except|other than|apart from|aside from|"
    r"with the exception|"
    r"save for)\b(?!(?: for)? (?:that|this|these|those)\b)|only (?:the|a|its)\b)",
    demand=r"^(?:more|less|fewer|bigger|smaller|larger|darker|brighter|warmer|another|no longer|"
    r"no more than|a (?:second|"
    r"third|fourth|fifth)|(?:keep|leave|preserve) (?:only|just|out|more|one)|do away|lose the|touch up|"
    r"even out|bend|"
    r"tie|tidy|unwrap|untie)\b|\brather than\b|^(?:(?:do not|don't) (?:show|let|have|leave|crop|include|"
    r"use)\b(?! (?:it|this|that) )|"
    r"stop\b|get rid|leave out|"
    r"match the \w+|uncover|unfold|undo|fit)\b|\b(?:should|must|ought|could (?:be|use|do|have)|"
    r"needs? (?!no\b|not\b|nothing\b)|has to|"
    r"(?:i|we)(?:'d| would)? (?:want|wish|like|need|expect)|"
    r"have to|would be|would"
    r" benefit|too|instead|lacks?|missing|slightly|a (?:bit|little))\b",
    statement=r"(?:the|this|that|these|those|all|both|its?|it's|every\w*|each|they|there|i|i'm|we|as|"
    r"given|considering|with|"
    r"other than|apart|aside|besides|for|in|your|overall|great|good|perfect|nice|excellent|wonderful|"
    r"fine|yes|no|none|well|thanks?|thank you|"
    r"congratulations|amazing|beautiful|instructions?|edits?|changes?|required|needed|suggested|picture|"
    r"image|n/a|honestly)\b",
    remark=r"(?:i|i'm|i'd|i've|we|you|it|it's|this|that|that's|everything|overall|honestly|as far as|"
    r"as an?|great|"
    r"good|nice|lovely|excellent|congratulations|well done|thanks?|thank you|in (?:my|summary|"
    r"conclusion|short)|"
    r"given|since|because|considering|"
    r"(?:the|this|your|a|an) (?:[\w-]+ ){0,3}?(?:image|picture|photo\w*|result|composition|output|"
    r"rendering|scene|"
    r"prompt|artwork|illustration|critique|assessment|evaluation|editor|user|match|depiction|"
    r"work)) ?(?:\b|$)",
    saved=r"\bbut \w+$|\bby (?:add|paint|mak|chang|remov|replac|mov|turn|giv|putt|plac|swapp|recolou?r|"
    r"enlarg|correct|fix)ing\b|^(?:keep|preserve|retain|maintain|conserve)\s+(?:only|just)\b|\b(?:nothing|"
    r"anything|"
    r"none)\s+(?:else\s+)?(?:but|except|other than|apart from|aside from|besides|save|more than|beyond)"
    r"\b(?!\s+(?:that|this|those|these)\b)|\b(?:no|any|without)\s+(?:[\w'-]+\s+){1,4}?(?:except|"
    r"other than|apart from|aside from"
    r"|besides|beyond)\b(?!(?: for)?\s+(?:that|this|those|these)\b)",
    spoken=r"\b(?:read(?:s|ing)?|(?<!i'd )(?<!i would )say(?:s|ing)?|writ\w+|spell\w*|words?|letters?|"
    r"lettering|labell?(?:ed)?|captions?|text|titled|"
    r"sign|banner|poster|inscription|print(?:s|ed)?)\b",
    anew=r"(?:please |just |then )*(?:(?:re-?generat|re-?render)\w*\b|(?:start(?:ing)?|begin) (?:over|"
    r"again|from scratch|anew|"
    r"afresh)|try again|(?:re-?creat|re-?draw|re-?make|re-?do|re-?paint|re-?imagin)\w*\s+(?:(?:the|this|"
    r"a|an|whole|entire|"
    r"complete|full|new)\s+)*(?:image|picture|photo\w*|illustration|scene|artwork|painting|drawing|"
    r"composition)\b|(?:creat|"
    r"generat|produc|render|provid|request)\w*\s+(?:(?:a|an|the|another|this|one|entirely|completely|"
    r"brand|whole|new|fresh|"
    r"different|better|corrected|revised|updated|improved|second|similar|accurate|more)[\s-]+)+(?:image|"
    r"picture|photo\w*|"
    r"illustration|artwork|rendering|version|scene)\b(?! (?:frame|on (?:the|a) (?:wall|table|door|desk)|"
    r"hanging|in the (?:frame|background|window|corner)))|(?:make|draw|paint|take|use|get)\s+(?:(?:a|an|"
    r"entirely|completely)\s+)*(?:new|another|different|fresh)\s+(?:image|picture|photo\w*|illustration|"
    r"artwork|version)\b(?! "
    r"frame)|replace\s+the\s+(?:(?:whole|entire|complete|full)\s+)?(?:image|picture|photo)\b)",
)
