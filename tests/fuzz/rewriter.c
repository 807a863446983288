/* SPDX-License-Identifier: MIT */
/*
 * What `pinion cc` does to a source: any text must be taken apart and put together again, and rewriting must neither lose nor leave what
 * it should not. The first byte of an input says what the others are:
 *
 *     text        they are the source
 *     words       each stands for a word that means something to the rewriter
 *     functions   each is a decision in writing a function with __try blocks, whose brackets all match
 */

#include "fuzz.h"

#include "cli/rewrite.h"
#include "cli/tokens.h"

#include <string.h>

enum { MOST_DEPTH = 6, PLENTY = 64 * 1024 };

/* In front of each source that is not plain text: what the rewriter looks for in pinion/seh.h. */
static const char pattern[] = "# 1 \"fuzz.c\"\n__attribute__((__optimize__(\"O0\"), __noinline__)) void pinion_seh_pattern(void);\n";

/* ---- sources ---- */

static void write_text(struct fuzz_input *input, FILE *source)
{
    while (input->left != 0) {
        const char c = (char)fuzz_byte(input);

        fputc(c == '\0' ? ' ' : c, source);
    }
}

static void write_words(struct fuzz_input *input, FILE *source)
{
    static const char *const words[] = {
        "{", "}", "(", ")", ";", "{", "}", "(", ")", ";", "[", "]", ",", ":", "*", "=", "?", "\n", "\n", "void f()", "int g(void)", "inline",
        "__inline", "static", "extern", "__attribute__((always_inline))", "__declspec(noinline)", "__try", "try", "__except", "except",
        "__finally", "finally", "__leave", "leave", "if (x)", "else", "while (x)", "for (;;)", "do", "switch (x)", "case 1:", "default:",
        "break;", "continue;", "return", "goto out;", "out:", "GetExceptionCode()", "GetExceptionInformation()", "AbnormalTermination()",
        "x", "f", "1", "10i64", "0x1ui32", "1.5e+3", "'a'", "\"a \\\" b\"", "\"", "'", "\\", "/* a */", "// a\n", "/*",
        "\n# 12 \"other.c\" 3\n", "\n#pragma pack(1)\n", "\n#line 7\n", "#", ".", "\r", "struct s { int a; }", "typedef",
    };

    fputs(pattern, source);
    while (input->left != 0)
        fprintf(source, "%s ", words[fuzz_below(input, sizeof(words) / sizeof(words[0]))]);
}

static void write_statement(struct fuzz_input *input, FILE *source, unsigned depth);

static void write_block(struct fuzz_input *input, FILE *source, unsigned depth)
{
    fputs("{ ", source);
    for (unsigned n = fuzz_below(input, 4); n > 0; n--)
        write_statement(input, source, depth + 1);
    fputs(fuzz_below(input, 16) == 1 ? "without_semicolon } " : "} ", source);
}

static void write_try(struct fuzz_input *input, FILE *source, unsigned depth)
{
    fputs("__try ", source);
    write_block(input, source, depth);
    fputs(fuzz_flag(input) ? "__finally " : "__except (filter(GetExceptionCode())) ", source);
    write_block(input, source, depth);
}

/* Labels and jumps go where they like: that is the compiler's business. */
static void write_statement(struct fuzz_input *input, FILE *source, unsigned depth)
{
    static const char *const simple[] = {
        "a = 10i64; ", "return b(); ", "return; ", "break; ", "continue; ", "goto out; ", "out: ; ", "c(\"}\"); ", "int d = 1;\n", ";",
        "case 3: ", "e = ({ f(); 1; }); ", "return 2;\n", "x ? y : z; ",
    };
    static const char *const around[] = {"if (g) ", "while (h()) ", "for (;;) ", "switch (i) ", "if (j) ; else ", ""};
    const unsigned choice = fuzz_byte(input);

    if (depth >= MOST_DEPTH || choice % 4 == 0) {
        fputs(simple[choice / 4 % (sizeof(simple) / sizeof(simple[0]))], source);
    } else if (choice % 4 == 1) {
        write_try(input, source, depth);
    } else if (choice % 4 == 2) {
        fputs(around[choice / 4 % 6], source);
        write_block(input, source, depth);
    } else {
        fputs("do ", source);
        write_block(input, source, depth);
        fputs("while (j); ", source);
    }
}

static void write_functions(struct fuzz_input *input, FILE *source)
{
    static const char *const heads[] = {"void k(int l)\n", "static int *m(void)\n", "inline VOID n()\n", "int o; long p(void (*q)(void))\n"};

    fputs(pattern, source);
    while (input->left != 0) {
        fputs(heads[fuzz_below(input, 4)], source);
        write_block(input, source, 0);
    }
}

/* ---- tokens ---- */

/* Printed one after the other they are the source again, and brackets belong to each other. */
static void check_tokens(const char *source)
{
    struct tokens tokens;
    const char *at = source;

    FUZZ_EXPECT(tokens_read(&tokens, source));
    for (size_t i = 0; i < tokens.n; i++) {
        const struct token *token = &tokens.at[i];

        FUZZ_EXPECT(token->before == at && token->text == at + token->before_bytes && token->text_bytes != 0, "token %zu", i);
        FUZZ_EXPECT(token->match < tokens.n && tokens.at[token->match].match == i, "token %zu", i);
        at = token->text + token->text_bytes;
    }
    FUZZ_EXPECT(tokens.end == at);
    FUZZ_EXPECT(strlen(source) >= (size_t)(at - source));
    tokens_free(&tokens);
}

/* Is there a counterpart of its kind for each bracket of the text? */
static bool is_balanced(const char *text)
{
    struct tokens tokens;
    bool balanced;

    FUZZ_EXPECT(tokens_read(&tokens, text));
    balanced = tokens.unmatched == tokens.n;
    tokens_free(&tokens);
    return balanced;
}

static bool is_one_of(const struct token *token, const char *const *words)
{
    while (*words != NULL && !token_is(token, *words))
        words++;
    return *words != NULL;
}

/* Words that are replaced, or that come behind what they were in front of. */
static bool may_go(const struct token *token)
{
    static const char *const words[] = {
        "__try", "try", "__except", "except", "__finally", "finally", "__leave", "leave", "return", "inline", "__inline", "__inline__",
        "__attribute__", "always_inline", "GetExceptionCode", "GetExceptionInformation", "AbnormalTermination", NULL};

    return token->kind == TOKEN_OTHER || token->kind == TOKEN_NUMBER || is_one_of(token, words);
}

/* What the source says is all there, in its order; there may be more between. */
static void check_nothing_lost(const char *source, const char *rewritten)
{
    struct tokens before, after;
    size_t at = 0;

    FUZZ_EXPECT(tokens_read(&before, source) && tokens_read(&after, rewritten));
    for (size_t i = 0; i < before.n; i++) {
        const struct token *wanted = &before.at[i];

        if (may_go(wanted))
            continue;
        while (at < after.n && (after.at[at].text_bytes != wanted->text_bytes
                                || memcmp(after.at[at].text, wanted->text, wanted->text_bytes) != 0))
            at++;
        FUZZ_EXPECT(at < after.n, "'%.*s', token %zu, in:\n%s\nwhich became:\n%s", (int)wanted->text_bytes, wanted->text, i, source,
                    rewritten);
        at++;
    }
    tokens_free(&before);
    tokens_free(&after);
}

/* ---- rewriting ---- */

/* rewrite_source, with what it says on stderr kept. All texts are the caller's to free. */
static enum rewritten rewrite(const char *source, char **rewritten, char **said)
{
    FILE *const errors = stderr;
    size_t bytes, said_bytes;
    FILE *out = open_memstream(rewritten, &bytes);
    enum rewritten outcome;

    FUZZ_EXPECT(out != NULL);
    stderr = open_memstream(said, &said_bytes);
    outcome = rewrite_source(source, out);
    fclose(stderr);
    stderr = errors;
    fclose(out);
    return outcome;
}

static void check_rewritten(const char *source, const char *rewritten)
{
    char *again, *said;

    FUZZ_EXPECT(is_balanced(source) && is_balanced(rewritten), "source:\n%s\nrewritten:\n%s", source, rewritten);
    check_nothing_lost(source, rewritten);
    FUZZ_EXPECT(strlen(rewritten) <= PLENTY * (strlen(source) + 1));
    FUZZ_EXPECT(rewrite(rewritten, &again, &said) == REWRITTEN_NOTHING, "once:\n%s\ntwice:\n%s\n%s", rewritten, again, said);
    free(again);
    free(said);
}

static void check_source(const char *source)
{
    char *rewritten, *said;
    enum rewritten outcome;

    FUZZ_TRACE("%s\n", source);
    check_tokens(source);
    outcome = rewrite(source, &rewritten, &said);
    FUZZ_TRACE("--> %d\n%s\n%s", outcome, said, rewritten);
    if (outcome == REWRITTEN_NOTHING)
        FUZZ_EXPECT(*rewritten == '\0' && *said == '\0');
    else if (outcome == REWRITTEN)
        check_rewritten(source, rewritten);
    else
        FUZZ_EXPECT(*said != '\0' || strncmp(source, pattern, strlen(pattern)) != 0, "a reason");
    free(rewritten);
    free(said);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const writers[])(struct fuzz_input *, FILE *) = {write_text, write_words, write_functions};
    struct fuzz_input input = {data, size};
    const unsigned kind = fuzz_below(&input, 3);
    char *source = NULL;
    size_t bytes;
    FILE *stream = open_memstream(&source, &bytes);

    FUZZ_EXPECT(stream != NULL);
    writers[kind](&input, stream);
    fclose(stream);
    check_source(source);
    free(source);
    return 0;
}
