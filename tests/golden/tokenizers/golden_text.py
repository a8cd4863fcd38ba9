"""The text that make_golden.py trains on and tokenizes. Written for this purpose."""

SCRIPTS = {
    "latin": "The quick brown fox jumps over the lazy dog; it wasn't there, they've said, but I'll see.",
    "french": "Dès Noël, où un zéphyr haï me vêt de glaçons würmiens, je dîne d’exquis rôtis de bœuf.",
    "german": "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich — mit Maß und Tür.",
    "vietnamese": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi.",
    "turkish": "Pijamalı hasta yağız şoföre çabucak güvendi. İstanbul'da ılık bir gün.",
    "greek": "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. Καλημέρα κόσμε, τι κάνεις σήμερα;",
    "cyrillic": "Съешь же ещё этих мягких французских булок, да выпей чаю. Привет, мир!",
    "ukrainian": "Жебракують філософи при ґанку церкви в Гадячі, ще й шатро їхнє п'яне знаємо.",
    "armenian": "Բոլոր մարդիկ ծնվում են ազատ ու հավասար իրենց արժանապատվությամբ ու իրավունքներով։",
    "hebrew": "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. שָׁלוֹם עוֹלָם",
    "arabic": "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق، وقد وُهِبوا عقلًا وضميرًا.",
    "urdu": "تمام انسان آزاد اور حقوق و عزت کے اعتبار سے برابر پیدا ہوئے ہیں۔",
    "persian": "همهٔ انسان‌ها آزاد به دنیا می‌آیند و از لحاظ حیثیت و حقوق با هم برابرند.",
    "syriac": "ܟܠ ܒܪܢܫܐ ܐܬܝܠܕ ܒܪ ܚܐܪܐ ܘܫܘܝܐ",
    "thaana": "ހުރިހާ އިންސާނުންވެސް އުފަންވަނީ މިނިވަންކަމުގައި",
    "nko": "ߡߐ߱ ߓߍ߯ ߞߊߙߏ߫ ߡߊ߬ߝߏ߬ߟߌ",
    "devanagari": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
    "bengali": "সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে।",
    "gurmukhi": "ਸਾਰਾ ਮਨੁੱਖੀ ਪਰਿਵਾਰ ਆਪਣੀ ਮਹਿਮਾ, ਸ਼ਾਨ ਅਤੇ ਹੱਕਾਂ ਦੇ ਪੱਖੋਂ ਜਨਮ ਤੋਂ ਹੀ ਆਜ਼ਾਦ ਹੈ।",
    "gujarati": "પ્રતિષ્ઠા અને અધિકારોની દૃષ્ટિએ સર્વ માનવો જન્મથી સ્વતંત્ર અને સમાન હોય છે.",
    "odia": "ସବୁ ମନୁଷ୍ୟ ଜନ୍ମକାଳରୁ ସ୍ୱାଧୀନ ଏବଂ ମର୍ଯ୍ୟାଦା ଓ ଅଧିକାରରେ ସମାନ ।",
    "tamil": "மனிதப் பிறவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்; அவர்கள் மதிப்பிலும் சமமானவர்கள்.",
    "telugu": "ప్రతిపత్తిస్వత్వముల విషయమున మానవులెల్లరును జన్మతః స్వతంత్రులును సమానులును నగుదురు.",
    "kannada": "ಎಲ್ಲಾ ಮಾನವರೂ ಸ್ವತಂತ್ರರಾಗಿಯೇ ಹುಟ್ಟಿದ್ದಾರೆ ಹಾಗೂ ಘನತೆ ಮತ್ತು ಹಕ್ಕುಗಳಲ್ಲಿ ಸಮಾನರಾಗಿದ್ದಾರೆ.",
    "malayalam": "മനുഷ്യരെല്ലാവരും തുല്യാവകാശങ്ങളോടും അന്തസ്സോടും സ്വാതന്ത്ര്യത്തോടുംകൂടി ജനിച്ചവരാണ്‌.",
    "sinhala": "සියලු මනුෂ්‍යයෝ නිදහස්ව උපත ලබා ඇත. ගරුත්වයෙන් හා අයිතිවාසිකම්වලින් සමාන වෙති.",
    "thai": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
    "lao": "ມະນຸດທຸກຄົນເກີດມາມີກຽດສັກສີ ແລະ ສິດເທົ່າທຽມກັນ",
    "tibetan": "འགྲོ་བ་མིའི་རིགས་རྒྱུད་ཡོངས་ལ་སྐྱེས་ཙམ་ཉིད་ནས་ཆེ་མཐོངས་དང་།",
    "myanmar": "လူတိုင်းသည် တူညီ လွတ်လပ်သော ဂုဏ်သိက္ခာဖြင့် မွေးဖွားလာသူများ ဖြစ်သည်။",
    "khmer": "មនុស្សទាំងអស់កើតមកមានសេរីភាព និងសមភាពក្នុងផ្នែកសេចក្ដីថ្លៃថ្នូរនិងសិទ្ធិ។",
    "georgian": "ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით.",
    "ethiopic": "የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው።",
    "cherokee": "ᏂᎦᏓ ᎠᏂᏴᏫ ᏂᎨᎫᏓᎸᎾ ᎠᎴ ᎤᏂᏠᏱ ᎤᎾᏕᎿ ᏚᏳᎧᏛ ᎨᏒᎢ",
    "syllabics": "ᐃᓅᔪᓕᒫᑦ ᐊᓂᖅᑎᕆᔪᓕᒫᑦ ᐃᓅᓂᑎᓐᓂ ᐊᔪᕐᓇᓐᖏᒃᑲᓂᐅᓪᓗᑎᒃ",
    "mongolian": "ᠬᠦᠮᠦᠨ ᠪᠦᠷ ᠲᠥᠷᠥᠵᠦ ᠮᠡᠨᠳᠡᠯᠡᠬᠦ᠎ᠡ",
    "hangul": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 가각힣",
    "jamo": "한글 한글 (conjoining) 가각",
    "japanese": "すべての人間は、生まれながらにして自由であり、カタカナとｶﾀｶﾅ、ー゛゜も。",
    "chinese": "人工智能的发展正在改变世界。人人生而自由，在尊严和权利上一律平等。",
    "traditional": "人人生而自由，在尊嚴和權利上一律平等。他們賦有理性和良心，並應以兄弟關係的精神相對待。",
    "yi": "ꊿꂷꃅꄿꐨꐥ，ꌅꅍꂷꀂꏽꐯꒈꃅꐥꌐ。",
    "gothic": "𐌼𐌰𐌲 𐌲𐌻𐌴𐍃 𐌹̈𐍄𐌰𐌽, 𐌽𐌹 𐌼𐌹𐍃 𐍅𐌿 𐌽𐌳𐌰𐌽 𐌱𐍂𐌹𐌲𐌲𐌹𐌸.",
    "cuneiform": "𒀀𒁁𒂂𒃃 𒄄𒅅",
    "hieroglyphs": "𓀀𓁐𓂀𓃒 𓆣𓇳",
    "mathematical": "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝐁𝐨𝐥𝐝 𝟘𝟙𝟚 ∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β → ℵ₀ ≤ 2ⁿ",
}

ENGLISH = """\
A tokenizer turns text into numbers and numbers into text. The model never sees a letter; it sees
the numbers alone. What the first tokenizers did with spaces, the later ones did with bytes: every
byte has a number of its own, so that there is nothing that cannot be written. Pairs that stand
together often are merged, then pairs of pairs, until the table is full.

When the server starts, it reads the table once. When a request comes, it splits the text into
words, looks each word up, and merges what it did not find. There isn't much more to it: we've seen
that the hard part is to do it exactly as the others do, for every text that anyone may send.
"Don't you think so?" she asked. "I'd say they're right," he answered, "but who'll pay 1,234.50
dollars for 99% of it?" In 1984, 2001 and 2023 the answer was the same.
"""

CHINESE = """\
分词器把文字变成数字，又把数字变成文字。模型看不到字母，它只看到数字。
人工智能的发展正在改变世界，人工智能的应用正在改变我们的生活。中国的城市，世界的城市。
服务器启动的时候，它读一次表。请求来的时候，它把文字分成词，查每一个词，然后合并没有找到的部分。
的确，最难的部分是和别人做得完全一样。我们的模型，我们的数据，我们的服务器。
"""

CODE = '''\
#include <vector>

template <typename T>
T sum(const std::vector<T>& values) {
    T total{};
    for (const auto& value : values) {
        total += value;  // adds up
    }
    return total;
}

def fibonacci(n: int) -> int:
\t"""The n-th number."""
\ta, b = 0, 1
\tfor _ in range(n):
\t\ta, b = b, a + b
\treturn a

if __name__ == "__main__":
    print([fibonacci(i) for i in range(10)], end="\\n")

SELECT id, COUNT(*) AS num FROM requests WHERE status != 'OK' GROUP BY id HAVING num >= 10;
const f = async (x) => { await fetch(`/v1/${x}?a=1&b=2`); };\r\n<p class="x">&amp;</p>\r\n
'''

TRAINING_TEXT = [ENGLISH, CHINESE, CODE, ENGLISH.upper()] * 2 + list(SCRIPTS.values())

EMOJI = [
    "😀😃😄 text 🎉", "👩‍👩‍👧‍👦 family", "👨🏽‍💻🧑🏿‍🚀", "🏳️‍🌈 🏴‍☠️", "🇩🇪🇨🇳🇺🇸", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "1️⃣2️⃣#️⃣", "❤️ vs ❤", "☺︎☺️",
    "👍🏻👍🏼👍🏽👍🏾👍🏿", "‍", "a‍b", "️️️",
]

COMBINING = [
    "é vs é", "é̂̃", "a" + "".join(chr(0x300 + i) for i in range(0x70)),
    "Å Å Å", "q̣̇ q̣̇", "ệ ệ ệ", "̀leading mark", "ﬁ ﬂ ﬀ ſ ŉ ǰ ß ẞ İ ı",
    "각 vs 각", "ཱུ ཱུ", "ü" * 20, "̈́ ̈́", "क़ क़", "Ω Ω K K Å",
    "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘!͖̬̰̙̗̿̋ͥͥ̂ͣ̐́́͜͞",
]

SPACES = [
    "", " ", "  ", "   ", " " * 17, " a", "a ", "  a  b  ", "a   b", "a\tb", "\t\t\ta", "a\n\nb", "\n", "\r\n",
    "a\r\n\r\nb", " \n \n ", "\n  x", "x  \n", "a b c d", "a b c", "a　b", "a b",
    "a​b", "﻿a", "a᠎b", "ab", "a b", "▁", "▁▁a ▁b", "a▁b", " ▁ ", "\x0b\x0c\x1c\x1d\x1e\x1f",
    "tab\tand  two   three    four     five\n      six\n\t\tseven",
]

PUNCTUATION = [
    "...", "!!!???", "?!?!", "“quotes” ‘single’ «guillemets» „low“", "a-b_c/d\\e|f", "(a)[b]{c}<d>",
    "$1,234.56 €99 £0.5 ¥100", "100% ½ ¾ ² ³ ₂ Ⅷ ①②③ ㊿ ๓ ٣ ३ 五", "C:\\path\\file.txt", "https://example.org/?q=a+b&c=%20#x",
    "user@example.org", "a--b---c----", "''''", "'s 't 're 've 'm 'll 'd", "'S 'T 'RE 'VE 'M 'LL 'D 'Ll 'rE",
    "'ſ it'ſ Kelvin'K", "don't DON'T Don’t we'll WE'LL I'd'nt've", "12345678901234567890", "3.14159 1e-10 0x1F 1_000",
    "#hashtag @mention *bold* _it_ ~s~ `code` ``q``", "a.b,c;d:e", "a.b.c...d,,e;;f (([[{{x}}]])) x==y===z~~w~",
    "…。，、।۔،", "a…b。c，d、e।f۔g،h", "(|)", "x|(y)", "~", "= = ==",
]

CONTROL = [chr(i) for i in range(0x80)] + [f"a{chr(i)}b" for i in range(0x20)] + [
    "\x7f\x80\x85\x9f\xa0", "‪‫‬‭‮", "⁦⁧⁨⁩", "‏‎", "﷐﷯￾￿",
    "􏿿", "", "�", "\x00\x00a\x00", "߿ࠀ￿𐀀",
]

SPECIAL_LOOKING = [
    "<s>", "</s>", "<unk>", "<pad>", "<|endoftext|>", "a<|endoftext|>b", "<s> hello </s>", "<0x41>", "<0xE4>",
    "<|im_start|>user\nHi<|im_end|>\n", "<|begin_of_text|>", "[INST] x [/INST]", "<tool>", "  <tool>  x", "a<tool>b",
    "<tool_call>\n{\"name\": 1}\n</tool_call>", "<tool_call", "<tool_call><tool_call>", "<|im_", "<|im_x", "<|im_star",
    "tür", "die tür ist", "türe atür", "tür tür", "tür tür", "▁▁▁▁", "的确", "我的确是", "<fim_prefix>", "<sep>x",
    "\u2047", "<S>", "< s >",
]

WORDS = [
    "antidisestablishmentarianism", "Donaudampfschifffahrtsgesellschaft", "pneumonoultramicroscopicsilicovolcanoconiosis",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "ababababababababababababababababababab",
    "的的的的的的的的的的的的的的的的", "camelCaseWordsAndPascalCaseOnes", "snake_case_words", "ALLCAPS", "mIxEd", "HTTPServer2XML",
    "x" * 33, "the" * 40, "e" * 32, "的一" * 17,
]

CORPUS = (list(SCRIPTS.values()) + ["".join(SCRIPTS.values())[::-1]] +
          EMOJI + ["".join(EMOJI)] + COMBINING + SPACES + PUNCTUATION + CONTROL + SPECIAL_LOOKING + WORDS +
          [ENGLISH, CHINESE, CODE, ENGLISH.title()])
