"""Whether a critic refused, evaded or saw no picture, told by its words; whether a free text can be used.

A refusal begins a sentence: "I'm sorry, but I can't ...". A critique may hold the same words elsewhere:
what stands in quotation marks, on a sign, or is said of a viewer, is no refusal; neither is an excuse that
goes on to say what is wrong, nor "I cannot see a hat". To add a language: its lines in _REFUSALS.
"""

import re
import unicodedata

from rpo_cli.stages.instructions import asks_for_nothing, plain, without_quotes

LONGEST = 20_000  # characters that are looked at
FIRST = 600  # of a sentence: a refusal begins it
SENTENCE = re.compile(r"[.!?。！？…\n]+(?:[\"”’»」)*\s]+|$)|[。！？]")
_OPENING = re.compile(
    r"^(?:[\s*_>#\"'“„«–—-]|(?:unfortunately|regrettably|however|but|apologies|my apologies|well|hello|hi|"
    r"i'm afraid(?: that)?|i am afraid(?: that)?|(?:thanks|thank you) for [^,;]{0,60}?(?=[,;]? (?:but|"
    r"however)\b)|"
    r"(?:i|we) (?:appreciate|understand) [^,;]{0,60}?(?=[,;]? (?:but|however)\b)|"
    r"(?:merci|danke|gracias) (?:pour|für|por) [^,;]{0,60}?(?=[,;]? (?:mais|aber|pero)\b)|aber|mais|pero|"
    r"thanks?|thank you|sorry|bedaure|perdón|pardon"
    r"|leider|hallo|bedauerlicherweise|malheureusement|bonjour|désolée?|lamentablemente|"
    r"desafortunadamente|hola"
    r"|purtroppo|infelizmente|к сожалению|您好|你好|很遗憾|遗憾|那个|as an ai[\w -]*|"
    r"als ki[\w-]*|en tant qu['’][\w' ]+|como (?:una? )?(?:ia|modelo)[\w ]*)\b[,;:!，；：]?\s*)+",
)
_CANT = (
    r"(?:can(?:not|'t| not)|could(?:n't| not)|won't|will not|wouldn't|(?:am|are|'m|'re)(?: not able|"
    r" unable)(?: to)?|(?:am|are|'m|'re) not (?:allowed|permitted|comfortable|in a position)|not able to|"
    r"unable to)"
)
_DEED = (
    r"(?:\w+ (?:or|and|nor) )?(?:assist|comply|fulfil\w*|engage|participate|continue with|proceed|"
    r"(?:help|provide|process|analy[sz]e|evaluate|assess|judge|critique|comment|describe|discuss|review|"
    r"view|see|access|open|"
    r"load|look at|generate|create|answer|respond|do|display|receive|interpret|inspect|rate|offer|give|"
    r"identify|support|complete)\b"
    r"(?=\s*(?:$|[.,;!]|attachments?\b|files?\b|with|(?:on|about) (?:this|that|it|these|those|such|any|"
    r"your|people|real|"
    r"specific|individuals?|someone|images?|pictures?|photos?|the (?:\w+ )?(?:image|picture|photo|"
    r"content|people|"
    r"person|subject|individual))\b|to|you|this|that|these|such|any (?:image|picture|"
    r"photo|feedback|critique|"
    r"comment|content|file)|the (?:\w+ )?(?:image|picture|photo"
    r"|request|content|file|attachment)|an? (?:\w+ )?(?:image|picture|photo|critique|evaluation|"
    r"assessment|description|"
    r"analysis|review|comment)|images?\b|pictures?\b|photos?\b|it\b|your|people|feedback|a person|real|"
    r"for|directly)))"
)
_REFUSALS = (
    # in any language: that there is no picture
    r"(?:the |an? )?(?:image|picture|photo|attachment|file)s? (?:was |were |is )?(?:not|missing|"
    r"never) ?(?:provided|found|attached|"
    r"uploaded|received|loaded|given|included)?\W*$|no (?:image|picture|photo|attachment)s? (?:was |"
    r"is )?(?:found|available|"
    r"included|visible|given)\W*$",
    r"(?:mir |uns )?(?:wurde|liegt) (?:mir |uns )?(?:leider )?kein\w* (?:bild|foto|anhang)|"
    r"l'image n'a pas été (?:jointe|fournie|"
    r"reçue|chargée|téléchargée|transmise)|(?:图片|图像|照片)(?:未能?|没有|无法)(?:成功)?(?:加载|显示|"
    r"上传|打开|收到)",
    # English
    r"(?:i'm|i am|we're|we are)?\s*(?:so |very |really |deeply |truly |"
    r"terribly )*sorry\b(?!-)(?:\W+\w+){0,3}\W*$",
    r"(?:i'm|i am|we're|we are|i do|i must|i|we|please accept my)?\s*(?:so |very |really |deeply |truly |"
    r"terribly )*(?:sorry|apologi[sz]e|apologies)\b"
    rf"(?=[^\n]*(?:\b{_CANT}|\bno (?:image|picture|photo)|\b(?:don't|do not|didn't|did not) (?:see|have|"
    rf"receive)|\bagainst\b|violat|policy|"
    r"policies|guidelines|inappropriate|not appropriate|decline|refuse|\bnot something\b|as an ai))"
    r"(?![^\n]*\b(?:is|are) (?:written|printed|painted)\b)",
    rf"(?:i|we)\s*{_CANT}\s+(?:be able to\s+)?(?:\w+ly\s+)?{_DEED}",
    r"i(?:'m| am) not (?:comfortable|allowed|permitted|in a position)\b",
    rf"(?:unable|not able) to\s+(?:\w+ly\s+)?{_DEED}",
    r"(?:i|we) (?:must|have to|need to|will have to)(?: respectfully| politely)? (?:decline|refuse|"
    r"abstain|pass)",
    r"(?:i|we)(?:'d| would)? (?:respectfully |politely )?(?:decline|refuse|prefer not|rather not|"
    r"choose not)\b",
    r"(?:i|we) (?:don't|do not) (?:feel comfortable|have (?:the ability|access|an? (?:image|picture)|"
    r"any image)|"
    r"see (?:an|any|the|a|your) (?:image|picture|photo|attachment))|(?:i|we) (?:didn't|did not|haven't|"
    r"have not) (?:receive|received|got|get) (?:an|any|the|a|your)",
    r"(?:this|that|it) is something (?:i|we) ?(?:can't|cannot|won't|am not|'m not)",
    r"(?:this|that|it)(?:'s| is|) ?(?:isn't|not) (?:something|a (?:request|task|topic)|"
    r"one) (?:that )?(?:i|we)\b",
    r"(?:this|that|it|the request|your request|the (?:image|picture|content))(?:'s| is| falls| goes|"
    r" lies)? "
    r"(?:outside|beyond)\b[^\n]{0,30}?\b(?:what (?:i|we)\b|(?:my|our)\b)",
    r"(?:i'm|i am|we're|we are) (?:going|choosing|opting|inclined) (?:to|not to) (?:pass|decline|skip|"
    r"refuse|"
    r"abstain|not|comment|engage)|i'll (?:have to )?(?:pass|decline|skip|refuse|abstain)\b",
    r"(?:this|the|your|that) (?:request|prompt|output|response|conversation) (?:was|has been|is|"
    r"got) (?:\w+ )?"
    r"(?:blocked|flagged|rejected|filtered|denied|refused|declined|withheld)\b|(?:this|the|"
    r"your) (?:image|picture|"
    r"photo|content) (?:was|has been|is) (?:\w+ )?(?:blocked|flagged|rejected|withheld|"
    r"filtered) (?:by (?:our|the|a) "
    r"(?:\w+ )?(?:safety|content|policy|filter|moderation)|due to|because|for (?:safety|violat|"
    r"containing)|as )",
    r"(?:let's|let us|shall we|could we|can we) (?:(?:talk|discuss|chat|focus|look|try|"
    r"work)\b[^\n]{0,20}\b(?:else|"
    r"another|different|other)\b|(?:change|switch) (?:the )?(?:topic|subject)s?\b)|"
    r"(?:is there|can i|may i|how (?:else )?can i)\b[^\n]{0,40}\b(?:something|anything)? ?else\b[^\n]*"
    r"(?:help|assist)|(?:i'm|i am|i'd be) happy to help with (?:something|anything|other|a different)",
    r"(?:das|dieses bild|dazu|hierzu|darüber|so etwas|dies) (?:kann|darf|möchte|"
    r"werde) ich\b[^\n]*\b(?:nicht|nichts|keine?)\b",
    r"il m'est impossible|je n'ai pas accès",
    r"as an ai\b(?:,? (?:language )?(?:model|assistant))?[^\n]*\b(?:can|not|unable|don't)",
    r"i(?:'m| am) (?:just |only )?an? (?:ai|text|language)[\w -]*(?:model|assistant|based)",
    r"(?:this|the|your) (?:image|picture|photo|content|request|prompt)[^\n]{0,40}\b(?:violates?|"
    r"goes against|is against|breaches|is not allowed|depicts? (?:prohibited|disallowed|sensitive)|"
    r"cannot be (?:"
    r"processed|analy[sz]ed|evaluated|displayed|loaded))",
    r"(?:request|content|access) (?:denied|refused|blocked|policy|filter\w*)|it(?:'s| is|"
    r" would be) (?:not|n't|in)\s?appropriate (?:for me )?to",
    r"(?:please|kindly|(?:could|can|would) you(?: please)?)\s+(?:try to\s+)?(?:up-?load|attach|provide|"
    r"share|send|re-?send|re-?upload|submit|"
    r"paste)(?:ing)?\s+(?:me\s+|us\s+)?(?:it(?: again| here| so|\W*$)|(?:the|an?|your|another|that|"
    r"this)\s+(?:\w+\s+){0,2}?(?:image|picture|photo\w*|file|"
    r"attachment)\b)",
    r"(?:it (?:seems|looks like|appears)(?: that| as if| like)? )?(?:there (?:is|was|'s|seems to be|"
    r"appears to be) )?no (?:image|picture|photo|"
    r"attachment|file)s?\b(?:[^\n]{0,30}\b(?:attach|provid|upload|receiv|came|come|sent|shared))",
    r"(?:it (?:seems|looks like|appears)(?: that)? )?(?:the|your) (?:image|picture|photo|attachment|"
    r"file)\b[^\n]{0,20}?(?:did(?:n't| not)|failed|"
    r"does(?:n't| not)|wasn't|was not|has not|is not|isn't|could not|couldn't)[^\n]{0,25}\b(?:load|"
    r"upload|come through|attach|provid|appear|includ|open|"
    r"displayed|go through|(?:accessible|available)(?=\s*(?:$|[.,;]|to\b|here|yet|for)))",
    # German
    r"(?:es )?tut mir (?:sehr |wirklich |furchtbar )?leid\W*$|(?:(?:es )?tut mir (?:sehr |wirklich |"
    r"furchtbar )?leid|entschuldig\w+|verzeihung|ich bedauere)\b"
    r"(?=[^\n]*(?:nicht|kein|ablehn|verstö|verstoß|richtlinie|unmöglich|außerstande|"
    r"leider))(?![^\n]*\b(?:steht|stehen) (?:auf|da|dort)\b)",
    r"(?:leider )?(?:ich )?(?:kann|darf|möchte|werde|will)\s*(?:ich )?[^\n]*?(?:nicht|nichts|"
    r"keine?\w*)\b[^\n]*?(?:beurteil|helf|analys|bewert|anseh|anschau|"
    r"beschreib|unterstütz|verarbeit|kommentier|beantwort|erfüll|sagen|äußer|besprech|weiterhelf|öffn|"
    r"aufruf|nachkomm|liefer|bild sehen|geben)",
    r"ich (?:bin|sehe mich) (?:leider )?(?:nicht in der lage|außerstande|nicht befugt|nicht fähig)|"
    r"ich (?:muss|möchte|werde) (?:(?!nicht\b)[\w-]+ ){0,6}?(?:ablehn|verzicht)|"
    r"ich muss (?:\w+ ){0,2}passen\b|ich (?:lehne|verzichte (?:darauf|lieber|auf (?:eine?|"
    r"jede\w*) (?:bewert|kommentar|analys|beurteil|beschreib)\w*)|"
    r"verweigere|enthalte mich|weigere)\b|ich (?:kann|darf) (?:hier )?(?:leider )?keine? (?:bild\w*|"
    r"foto\w*|datei\w*)"
    r" (?:an)?(?:seh|schau|betracht|öffn|empfang|erkenn|verarbeit|analys)\w*|mir (?:ist es|"
    r"fehlt)[^\n]{0,30}"
    r"(?:nicht (?:möglich|erlaubt|gestattet)|(?:möglichkeit|fähigkeit)\b)|lassen sie uns über",
    r"(?:zu|über|bei|mit) (?:dies\w*|so\w*|dem|das|der) (?:(?:bild|foto|inhalt|anfrage|aufgabe|thema|"
    r"art|person)\w* )"
    r"?(?:von \w+ )?(?:(?:möchte|darf|werde|will) ich\b[^\n]*|kann ich (?:leider |hier |dir |ihnen )*)"
    r"\b(?:nicht|nichts|keine?)\b",
    r"(?:ich (?:sehe|habe|finde|erkenne) (?:leider |hier )?(?:kein|noch kein)\w* (?:bild|foto|anhang)|"
    r"es (?:wurde|ist|liegt|gibt|war)[^\n]{0,15}\bkein\w* (?:bild|foto|"
    r"anhang|datei)|kein\w* (?:bild|foto|anhang)\b[^\n]{0,25}\b(?:angeh|beigef|hochgel|vorhanden|"
    r"erhalten|übermit|gefund|empfang|mitgesch))",
    r"(?:bitte )?(?:laden sie|lade|senden sie|sende|schicken sie|schicke?|könnten sie|"
    r"könntest du)\b[^\n]*\b(?:bild|foto|datei|es)\b[^\n]*"
    r"\b(?:hoch|hochladen|erneut|noch einmal|schicken|senden|beifügen)\b|"
    r"bitte[^\n]{0,20}\bbild\b[^\n]{0,20}\b(?:hochladen|senden|anhängen|bereitstellen)",
    r"als (?:ki|künstliche intelligenz|sprachmodell)\b",
    r"(?:dieser?s?|der|die|das|ihre?) (?:inhalt|anfrage|bitte|darstellung|aufgabe|bild|"
    r"foto)\w* (?:(?:verstößt|"
    r"verletzt|widerspricht)\b[^\n]{0,30}(?:richtlinie|nutzungs|regeln|bestimmung|policy|unsere|meine)|"
    r"wurde (?:blockiert|abgelehnt|gesperrt|gefiltert)|liegt außerhalb mein|geht über mein)|"
    r"(?:dieses|das) bild (?:kann (?:ich )?nicht (?:bewertet|beurteilt|analysiert|verarbeitet))",
    # French
    r"(?:je suis |nous sommes )?(?:vraiment |sincèrement |profondément )?(?:désolée?s?|navrée?s?)\W*$|"
    r"(?:(?:je suis |nous sommes )?(?:vraiment |sincèrement |profondément "
    r"|absolument )?(?:désolée?s?|navrée?s?)|je regrette|pardon|excusez-moi|je m'excuse|"
    r"toutes mes excuses)\b(?=[^\n]*(?:\bne (?:peux|puis|suis|"
    r"saurais|vois|pouvons)|\bn'(?:ai|est|a)\b|impossible|refus|aucune image|pas en mesure|déclin|"
    r"contraire|politique))",
    r"(?:je|nous) (?:ne |n')(?:peux|puis|pouvons|suis|saurais|souhaite|vais|veux|vois|ai|dispose|"
    r"peut)\b[^\n]*?\b(?:pas|aucune?|en mesure)?\b[^\n]*?(?:aider|analys|évalu|"
    r"comment|décri|juger|traiter|fournir|répondre|voir (?:l'|d'|cette|aucune )?image|accéder|assister|"
    r"donner suite|examiner|afficher|image (?:jointe|fournie)|critiquer)",
    r"je (?:dois|préfère|suis (?:contrainte?|obligée?) de) (?:ne pas |malheureusement |"
    r"poliment )*(?:décliner|refuser|m'abstenir|comment|répondre)|je (?:décline|refuse)\b",
    r"(?:veuillez|merci de|pourriez-vous|pouvez-vous|peux-tu|"
    r"s'il vous plaît,?)\s+(?:bien\s+)?(?:me\s+)?(?:télécharg|télévers|joindre|fournir|envoy|partag|"
    r"import|transmet|charg)\w*\b[^\n]*\b(?:image|photo|fichier)",
    r"(?:il n'y a |je ne vois |aucune (?:image|photo|pièce))[^\n]{0,12}(?:image|photo|jointe|n'a été|"
    r"fournie|reçue|téléchargée|visible)",
    r"en tant qu['e ]\s*(?:ia|intelligence|modèle|assistant)",
    r"(?:cette|ce|votre|l'|la|le) ?(?:image|photo|demande|contenu|requête)s? (?:a été (?:bloqué|rejeté|"
    r"refusé|signalé)|"
    r"(?:enfreint|viole|va à l'encontre|est contraire|ne respecte pas|dépasse|"
    r"sort du cadre)\b[^\n]{0,25}(?:règle|"
    r"politique|conditions d|directive|\bnos\b|\bmes\b|que je))|cette (?:image|photo|"
    r"demande) (?:enfreint|viole)",
    r"(?:parlons|passons) (?:d'autre|à autre|plutôt)|je (?:m'abstien\w*|passe mon tour|"
    r"préfère (?:ne pas|m'abstenir))",
    # Spanish
    r"(?:lo siento|lo lamento|perdón|perdona|disculpa|disculpe|disculpas)(?: mucho)?\W*$|(?:lo siento|"
    r"lo lamento|perdón|perdona|disculpa|disculpe|mis disculpas|me temo)\b"
    r"(?=[^\n]*(?:\bno (?:puedo|me es|soy|estoy|podemos|veo|tengo|se|hay|he|es posible)|imposible|"
    r"ninguna imagen|rechaz|declin|políticas?|normas))",
    r"(?:yo )?no (?:puedo|podemos|me es posible|soy capaz de|estoy en condiciones de|estoy autorizad[oa]|"
    r"voy a|quiero|tengo permitido)\b[^\n]*?(?:ayud|analiz|evalu|coment|descri|juzg|"
    r"proces|proporcion|respond|ver (?:la|esta|ninguna|imágenes)|acced|asist|complet|cumpl|opin|valor|"
    r"criticar)",
    r"(?:debo|tengo que|prefiero|me veo obligad[oa] a) (?:declinar|rechazar|negarme|abstenerme|no )|"
    r"(?:declino|rechazo|me niego)\b",
    r"(?:por favor,? )?(?:sub[ae]|adjunt[ae]|proporcion[ae]|env[ií][ae]|comparte|comparta|carg[au]e?|"
    r"podrías? (?:subir|adjuntar|enviar|compartir))\b[^\n]*\b(?:imagen|foto|archivo)\b",
    r"(?:no (?:se (?:ha|me ha)?\s*(?:adjunt|recib|proporcion|inclu|envi|carg)\w*|hay|veo|encuentro|"
    r"he recibido|recibí)[^\n]{0,12}\b(?:imagen|foto|archivo))|ninguna imagen\b",
    r"como (?:una? )?(?:ia|inteligencia artificial|modelo de)",
    r"(?:est[ae]|el|la|su|tu) (?:imagen|foto|solicitud|contenido|petición|pedido) (?:(?:viola|infringe|"
    r"incumple|va en "
    r"contra|está fuera|queda fuera|excede|supera)\b[^\n]{0,25}(?:política|normas|directrices|términos|"
    r"\bmis?\b|"
    r"nuestr|lo que puedo)|(?:ha sido|fue) (?:bloquead|rechazad|denegad|marcad))|"
    r"esta (?:imagen|foto|solicitud) (?:viola|infringe|incumple)",
    r"hablemos de|(?:me abstengo|paso de|preferiría no)\b",
    # Chinese
    r"(?:我)?(?:很|非常|十分|真的|实在|深感|深表)?(?:抱歉|对不起|不好意思|遗憾|歉意)(?=.{0,40}(?:无法|"
    r"不能|没法|不便|不可以|没有|未|不允许|拒绝|违反|不适|无权|看不到))",
    r"(?:我)?(?:很|非常|十分|真的)?(?:抱歉|对不起|不好意思)$",
    r"(?:由于.{0,20}，?)?(?:我|本人|作为.{0,12}，?我?)?(?:们)?(?:无法|不能|没法|没有办法|无权|不便|"
    r"不可以|拒绝)(?:对|为|就|帮|直接|给)?.{0,12}(?:分析|评价|评估|查看|看到(?:图|这|该|任何|您)|描述|"
    r"处理|提供|协助|帮助|帮您|回答|识别|访问|完成|评论|"
    r"打开|满足|讨论|置评|发表)",
    r"(?:请|麻烦|能否|可以)(?:您|你)?(?:先|再|重新|将)?.{0,6}(?:上传|提供|发送|附上|发给|发一下|重发|"
    r"分享).{0,8}(?:图|照片|一下|$)|请.{0,4}(?:图片|照片|图像).{0,4}(?:上传|发)",
    r"(?:我)?(?:没有|未能?|没|看不到|并未)(?:看到|收到|检测到|发现|附|上传|提供|接收到|"
    r"找到)?.{0,6}(?:图片|图像|照片|附件)(?:.{0,6}$|.{0,6}(?:被|上传|附|提供|，))",
    r"作为(?:一个|一名|一款)?(?:ai|人工智能|语言模型|大模型)",
    r"(?:该|这张|此|本|您的|你的)?(?:图片|图像|内容|请求|照片).{0,8}(?:违反|违规|已被(?:拦截|屏蔽|拒绝|过滤)|"
    r"不符合.{0,6}(?:政策|规定|准则|规范)|(?:涉及|包含|含有).{0,8}(?:敏感|违规|不当|违禁|隐私|不适宜)(?:的)?(?:内容|信息|题材|话题|主题|人物|元素|画面|"
    r"$))",
    r"(?:您|你)(?:似乎|好像|还|并)?(?:没有|没|未|忘了|忘记).{0,4}(?:上传|提供|发送|附).{0,6}(?:图|照片|附件)",
    r"(?:我)?.{0,6}(?:帮不了|帮不上|办不到|做不到|没办法(?:帮|回答|完成|处理|看|分析)|爱莫能助|恕难|恕我(?:不能|无法|不便))|"
    r"(?:我们)?(?:换个|聊点|聊聊)(?:话题|别的|其他)|(?:超出|不在).{0,6}(?:我的)?(?:能力|服务|权限)",
    # Japanese, Korean
    r"(?:大変|誠に)?(?:申し訳|すみません|ごめんなさい|恐れ入り|残念ながら)(?=.*(?:できません|できかね|"
    r"いたしかね|お答え|不可能|ありません|いません|ません|$))",
    r".{0,12}(?:画像|写真|リクエスト|ご要望).{0,12}(?:分析|評価|お手伝い|説明|対応|お答え|表示|確認|"
    r"コメント).{0,6}(?:できません|できかね|いたしかね)|.{0,8}(?:画像|写真).{0,6}(?:添付|アップロード|"
    r"見当たり|提供)"
    r".{0,6}(?:いません|ません|ください)",
    r"(?:정말 |대단히 |매우 )?(?:죄송|미안|유감)(?=.*(?:수 없|못|어렵|불가|않|없|$))|.{0,14}(?:이미지|"
    r"사진|요청).{0,14}(?:분석|평가|설명|도와|처리|제공|확인|볼).{0,8}(?:수 없|수가 없|못)|"
    r".{0,6}(?:이미지|사진).{0,6}(?:업로드|첨부|제공|보내)"
    r".{0,6}(?:주세요|주시|않|바랍)",
    # Italian, Portuguese, Russian
    r"(?:mi dispiace|sono spiacente|mi scuso|scusa|scusate)\b(?=[^\n]*(?:\bnon\b|impossibile|"
    r"nessuna immagine|rifiut|$))|non (?:posso|riesco a|sono in grado di|"
    r"mi è possibile)\b[^\n]*?(?:aiutar|"
    r"analizz|valut|comment|descriv|giudic|elabor|fornir|rispond|vedere (?:l'|alcuna|nessuna)|accedere|"
    r"assister)|(?:per favore,? )?(?:caric|alleg|fornisc|invi|condivid)\w*\b[^\n]*\bimmagine|"
    r"nessuna immagine\b",
    r"(?:desculpe|desculpa|sinto muito|lamento|peço desculpas?|me desculpe)\b(?=[^\n]*(?:\bnão\b|"
    r"impossível|nenhuma imagem|recus|$))|(?:eu )?não (?:posso|consigo|é possível|sou capaz de|"
    r"estou (?:apto|autorizad))"
    r"[^\n]*?(?:ajud|analis|avali|coment|descrev|julg|process|fornec|respond|ver (?:a|nenhuma)|acess|"
    r"auxili)|(?:por favor,? )?(?:envi|anex|carreg|forneç|compartilh)\w*\b[^\n]*\bimagem|"
    r"nenhuma imagem\b",
    r"(?:извините|простите|прошу прощения|сожалею|мне (?:очень )?жаль)\b(?=.*(?:\bне\b|невозможно|отказ|"
    r"нет изображ|$))|(?:я )?(?:не могу|не в состоянии|не имею возможности|не смогу|"
    r"вынужден\w* отказ)[^\n]*?(?:помо|"
    r"проанализ|анализ|оцен|обсужд|коммент|описа|просм|ответ|обработ|увидеть изобр|предостав)|"
    r"(?:пожалуйста,? )?(?:загруз|прикреп|пришл|отправ)\w*[^\n]*изображен|(?:изображени\w|"
    r"картинк\w) (?:не|нет)",
)


def is_refusal(text: str) -> bool:
    """Whether a sentence of `text` begins as a refusal does; what is quoted in it does not count."""
    plain = unicodedata.normalize("NFKC", without_quotes(text[:LONGEST])).replace("’", "'").lower()
    return any(_refuses(sentence) for sentence in SENTENCE.split(plain) if sentence.strip())


def _refuses(sentence: str) -> bool:
    bare = " ".join(sentence[:FIRST].split())
    began = [bare, _OPENING.sub("", bare)]
    return any(re.match(pattern, one) for pattern in _REFUSALS for one in dict.fromkeys(began) if one)


_EVASIONS = re.compile(
    # English
    r"\b(?:i|we)(?:'m| am| are|'ve| have)? (?:\w+ ){0,2}?(?:can't|cannot|can not|couldn't|unable|"
    r"not able|won't|will not|"
    r"don't|do not|didn't|did not|not|no (?:access|way|means)|haven't|lack|must not|abstain|refuse|"
    r"decline|have to (?:stop|"
    r"pass)|must stop)\b|"
    r"\b(?:guidelines?|polic(?:y|ies)|terms of (?:use|service)|(?:my|our) (?:capabilit|abilit|scope|"
    r"training)\w*|"
    r"(?:language|text) model|content filter|your (?:request|message|query)|nudity|(?:only|"
    r"just) (?:see )?text|where(?:'s| is| are) the (?:image|picture|photo)|goes against|my principles|"
    r"pornograph\w*|"
    r"inappropriate|disallowed|"
    r"prohibited|(?:image|picture|photo|file|nothing|attachment) (?:\w+ ){0,3}(?:uploaded|attached|"
    r"provided|received)|"
    r"no (?:image|picture|photo|file|attachment) (?:in|here|yet|to|for|with)|upload|(?:attach|resend|"
    r"send) (?:it|the|an?|your)|(?:to|for) me)\b|"
    # German
    r"\b(?:ich|mir|mich|wir|uns)\b[^.]*\b(?:nicht|nichts|kein\w*|unmöglich|untersagt|verwehrt|verboten)\b|"
    r"\b(?:richtlinie\w*|nutzungsbedingung\w*|anfrage|abstand|nur text|programmierung|wo ist das bild|"
    r"fehlt das bild|sprachmodell\w*|hochlad\w*|hochgeladen\w*|"
    r"angehängt\w*|"
    r"bild (?:\w+ ){0,3}(?:übertragen|übermittelt|erhalten)|(?:nicht|außerhalb) (?:in )?mein\w*|"
    r"(?:schick|send|lad)\w* (?:sie )?(?:mir )?(?:das|ein)|mein\w* (?:möglichkeit|fähigkeit|"
    r"kompetenz)\w*)\b|"
    # French
    r"\b(?:je ne|je n'|ne m'est|il m'est im)|\b(?:politiques?|dans l'impossibilité|ne s'affiche|"
    r"(?:renvoy|télécharg|envoy)\w+|mes (?:consignes|capacités|règles|directives)|"
    r"nos (?:règles|"
    r"conditions)|abstien\w*|aucun (?:fichier|image)|pas d'image|où est l'image|modèle de lang\w+|"
    r"téléverse\w*|joindre|(?:image|photo|demande) ne|(?:image|"
    r"photo) jointe|votre (?:"
    r"demande|requête|message))\b|"
    # Spanish
    r"\bno (?:puedo|podría|dispongo|tengo (?:acceso|permi|la|forma|manera|modo)\w*|me|estoy|soy|consigo|"
    r"logro|"
    r"voy|quiero|debo|es posible|se (?:puede|pudo))\b|\b("
    r"?:políticas?|normas|mis (?:capacidades|directrices|reglas)|adjunt\w*|sub(?:e|ir|a) (?:la|una)|"
    r"solo veo|falta la (?:imagen|foto)|no haré|dónde está la|modelo de lenguaje|(?:envi|"
    r"mand)\w{1,3} (?:la|una) (?:imagen|foto)|"
    r"(?:tu|su|esta) (?:solicitud|petición|mensaje))\b|"
    # Chinese
    r"只看到|(?:图|图片|照片)在哪|没有图(?!案|形|标)|我选择|我.{0,6}(?:不被|看不|无法|不能|不会|没有|没|不便|不可|不予|拒绝)|无法(?:处理|完成|回答|查看|分析|"
    r"识别|提供)|(?:此|该|这个|您的|你的)请求|"
    r"(?:加载|上传|显示)失败|准则|政策|我的(?:能力|权限)|上传|语言模型|敏感"
)


def evades(text: str) -> bool:
    """Whether a sentence of a critique without flaw is no judgement of a picture."""
    sentences = (one for one in SENTENCE.split(without_quotes(text[:LONGEST])) if one.strip())
    return any(_EVASIONS.search(plain(one)) and not asks_for_nothing(one) for one in sentences)


# lone surrogates are no text either: they cannot be written
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
LOOP_TIMES = 4  # a phrase said so often in a row is a loop


def check_text(text: str) -> str | None:
    """What is wrong with a free text, in a few words; None when it can be used."""
    if not text.strip():
        return "empty"
    if _CONTROL.search(text):
        return "control characters"
    if loops(text):
        return "the same words over and over"
    if is_refusal(text):
        return "a refusal"
    return None


def loops(text: str) -> bool:
    """Whether a phrase of 1 to 12 words stands LOOP_TIMES in a row, or half of many sentences are repeats.

    Texts without spaces count by runs of characters; rules and borders of tables are no words.
    """
    words = [word for word in text.split() if any(sign.isalnum() for sign in word)]
    for size in range(1, 13):
        for start in range(len(words) - size * LOOP_TIMES + 1):
            phrase = words[start : start + size]
            repeats = (words[start + size * k : start + size * (k + 1)] for k in range(1, LOOP_TIMES))
            if all(other == phrase for other in repeats):
                return True
    sentences = [part.strip() for part in re.split(r"[.!?\n]+", text) if part.strip(" \t|-=*#_:")]
    if len(sentences) >= 6 and len(set(sentences)) * 2 <= len(sentences):
        return True
    runs = re.finditer(r"(\S{1,12}?)\1{14,}", text)
    return any(any(sign.isalnum() for sign in run[1]) for run in runs)
