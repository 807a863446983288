/* SPDX-License-Identifier: MIT */
/*
 * `pinion cc`: the C compiler as drivers need it.
 *
 * Each source has its #include lines looked through (includes.c), is preprocessed, has what only Microsoft's compiler knows rewritten
 * (functions.c, seh.c), and is compiled.
 *
 *     words       the arguments, and those in response files, each with what it is; one that takes a value has it behind it
 *     source      a .c file among them, or, behind -x c, any file and standard input
 *     object      what that gives, in the place of the source when there is something to link
 *
 * A source in which nothing is to be rewritten is compiled as it stands. With -E, -M and -MM the first two steps are all.
 */

#include "cli/cli.h"
#include "cli/includes.h"
#include "cli/response.h"
#include "cli/rewrite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 4096, INTERRUPTED = 130 };

enum word_kind {
    WORD_FLAG,
    WORD_SOURCE,                /* a .c file, or a .i that was one; what -x c says is one, too */
    WORD_INPUT,                 /* any other */
    WORD_MACRO,                 /* for the preprocessor, and only for it */
    WORD_DEPENDENCY,            /* -MD and its kin */
    WORD_LINK,                  /* for the linker alone */
    WORD_OUTPUT,
    WORD_STEP,                  /* -c, -S, -fsyntax-only: how far to go */
    WORD_LANGUAGE,              /* -x, which speaks of sources: objects are none */
};

struct command {
    char  **words;              /* ends with NULL */
    size_t  n;
};

struct cc {
    const char     *compiler;
    char          **sources;    /* the words of the command line */
    char          **words;      /* the same, with an object for each source that was compiled */
    enum word_kind *kinds;
    size_t          nwords;
    const char     *output;     /* -o; NULL: not given */
    const char     *step;       /* NULL: to link */
    const char     *dependency_file, *dependency_target;
    bool            dependencies;
    unsigned        nsources;
    bool            has_inputs; /* other than sources */
    bool            sanitized;
    const char     *preprocesses;       /* -E, -M or -MM: no further; NULL: no such word */
    bool            whole;      /* another language: nothing is to be rewritten */
    bool            named_c;    /* while words are read: the files from here on are C, whatever they are called */
    bool            for_others; /* a shared object: it finds the routines in who loads it */
    char            work[PATH_BYTES], forwarders[PATH_BYTES + 32];
    bool            forwards;   /* there are any */
    char            wdk[PATH_BYTES + 32], include[PATH_BYTES + 32], library[PATH_BYTES + 32], rpath[PATH_BYTES + 32], seh[PATH_BYTES + 64];
};

/* ---- words ---- */

static const struct {
    const char    *name;
    enum word_kind kind;
    bool           joined;      /* the value may stand in the same word */
} valued[] = {
    {"-o", WORD_OUTPUT, true}, {"-D", WORD_MACRO, true}, {"-U", WORD_MACRO, true}, {"-include", WORD_MACRO, false},
    {"-imacros", WORD_MACRO, false}, {"-MF", WORD_DEPENDENCY, true}, {"-MT", WORD_DEPENDENCY, true},
    {"-MQ", WORD_DEPENDENCY, true}, {"-I", WORD_MACRO, true}, {"-isystem", WORD_MACRO, true}, {"-iquote", WORD_MACRO, true},
    {"-idirafter", WORD_MACRO, true}, {"-L", WORD_LINK, true}, {"-l", WORD_LINK, true}, {"-Wl,", WORD_LINK, true},
    {"-Xlinker", WORD_LINK, false}, {"-T", WORD_LINK, true}, {"-u", WORD_LINK, true}, {"-z", WORD_LINK, true},
    {"-x", WORD_LANGUAGE, true}, {"-Xpreprocessor", WORD_MACRO, false}, {"-Xassembler", WORD_FLAG, false}, {"-Xclang", WORD_FLAG, false},
    {"--param", WORD_FLAG, false}, {"-target", WORD_FLAG, false},
};

static bool begins(const char *word, const char *with)
{
    return strncmp(word, with, strlen(with)) == 0;
}

static bool ends(const char *word, const char *with)
{
    const size_t length = strlen(word), n = strlen(with);

    return length > n && strcmp(word + length - n, with) == 0;
}

static bool is_preprocessed(const char *word)
{
    return ends(word, ".i");
}

static bool is_source(const char *word)
{
    return ends(word, ".c") || is_preprocessed(word);
}

static void note_language(struct cc *cc, const char *language)
{
    cc->named_c = strcmp(language, "c") == 0;
    cc->whole |= !cc->named_c && strcmp(language, "none") != 0;
}

/* What a word with a value says to us. */
static void note_value(struct cc *cc, const char *name, const char *value)
{
    if (strcmp(name, "-o") == 0)
        cc->output = value;
    else if (strcmp(name, "-MF") == 0)
        cc->dependency_file = value;
    else if (strcmp(name, "-MT") == 0 || strcmp(name, "-MQ") == 0)
        cc->dependency_target = value;
    else if (strcmp(name, "-x") == 0)
        note_language(cc, value);
}

/* How many words the argument at `at` takes: 0 when it takes no value. */
static size_t read_valued(struct cc *cc, size_t at)
{
    const char *word = cc->words[at];

    for (size_t i = 0; i < sizeof(valued) / sizeof(valued[0]); i++) {
        const size_t length = strlen(valued[i].name);

        if (!begins(word, valued[i].name) || (word[length] != '\0' && !valued[i].joined))
            continue;
        cc->kinds[at] = valued[i].kind;
        if (word[length] != '\0') {
            note_value(cc, valued[i].name, word + length);
            return 1;
        }
        if (at + 1 == cc->nwords)
            return 1;                   /* the compiler says so better */
        cc->kinds[at + 1] = valued[i].kind;
        note_value(cc, valued[i].name, cc->words[at + 1]);
        return 2;
    }
    return 0;
}

static enum word_kind read_flag(struct cc *cc, const char *word)
{
    if (strcmp(word, "-c") == 0 || strcmp(word, "-S") == 0 || strcmp(word, "-fsyntax-only") == 0) {
        cc->step = word;
        return WORD_STEP;
    }
    if (strcmp(word, "-E") == 0 || strcmp(word, "-M") == 0 || strcmp(word, "-MM") == 0)
        cc->preprocesses = cc->preprocesses == NULL || word[1] == 'M' ? word : cc->preprocesses;
    cc->sanitized |= begins(word, "-fsanitize=");
    if (strcmp(word, "-shared") == 0 || strcmp(word, "-r") == 0) {
        cc->for_others = true;
        return WORD_LINK;
    }
    if (strcmp(word, "-static") == 0 || strcmp(word, "-rdynamic") == 0 || strcmp(word, "-pie") == 0 || strcmp(word, "-no-pie") == 0)
        return WORD_LINK;
    if (strcmp(word, "-MD") == 0 || strcmp(word, "-MMD") == 0) {
        cc->dependencies = true;
        return WORD_DEPENDENCY;
    }
    return strcmp(word, "-MP") == 0 || strcmp(word, "-MG") == 0 ? WORD_DEPENDENCY : WORD_FLAG;
}

static void read_words(struct cc *cc)
{
    for (size_t at = 0; at < cc->nwords;) {
        const char *word = cc->words[at];
        const size_t taken = read_valued(cc, at);

        if (taken == 0 && *word == '-' && word[1] != '\0')
            cc->kinds[at] = read_flag(cc, word);
        else if (taken == 0)
            cc->kinds[at] = cc->named_c || is_source(word) ? WORD_SOURCE : WORD_INPUT;
        cc->nsources += cc->kinds[at] == WORD_SOURCE;
        cc->has_inputs |= cc->kinds[at] == WORD_INPUT;
        at += taken == 0 ? 1 : taken;
    }
}

/* ---- commands ---- */

static const char *const driver_flags[] = {PINION_CC_FLAGS};

enum { NDRIVER_FLAGS = sizeof(driver_flags) / sizeof(driver_flags[0]), OWN_WORDS = NDRIVER_FLAGS + 32 };

static void add(struct command *command, const char *word)
{
    command->words[command->n++] = (char *)word;
    command->words[command->n] = NULL;
}

static void add_pair(struct command *command, const char *word, const char *value)
{
    add(command, word);
    add(command, value);
}

static bool begin(struct command *command, const struct cc *cc)
{
    command->n = 0;
    command->words = malloc((cc->nwords + OWN_WORDS) * sizeof(command->words[0]));
    if (command->words == NULL)
        return false;
    add(command, cc->compiler);
    return true;
}

static void add_words_of(struct command *command, const struct cc *cc, unsigned kinds)
{
    for (size_t i = 0; i < cc->nwords; i++)
        if (kinds & 1u << cc->kinds[i])
            add(command, cc->words[i]);
}

/* What every driver is compiled with, behind the caller's words: the last of two that contradict each other counts. */
static void add_own(struct command *command)
{
    for (size_t i = 0; i < NDRIVER_FLAGS; i++)
        add(command, driver_flags[i]);
}

static void add_search(struct command *command, const struct cc *cc)
{
    add_pair(command, "-I", cc->include);
    add_pair(command, "-I", cc->wdk);
    if (cc->forwards)
        add_pair(command, "-idirafter", cc->forwarders);
}

/* Runs it and forgets it; the exit code. */
static int finish(struct command *command)
{
    int code = INTERRUPTED, error = host_interrupted() ? 0 : host_run(command->words, &code);

    if (error != 0)
        code = cli_complain(CLI_USAGE, "cannot run the compiler '%s': %s; PINION_CC names another", command->words[0], strerror(-error));
    free(command->words);
    return code;
}

static int no_memory(void)
{
    return cli_complain(CLI_USAGE, "there is not enough memory to compile");
}

/* ---- one source ---- */

struct source {
    const char *path;
    bool        typed;                  /* it comes from standard input, and is kept in a file of ours */
    char        kept[PATH_BYTES + 16];
    char        stem[256];              /* its file name without .c, say */
    char        preprocessed[PATH_BYTES + 320], rewritten[PATH_BYTES + 320], object[PATH_BYTES + 320];
    char        named[PATH_BYTES + 320];        /* where its dependencies go when the caller does not say */
    char        target[PATH_BYTES + 320];       /* what they are the dependencies of, likewise */
    const char *dependencies;
    const char *output;                 /* what compiling it is to write */
};

static void name_dependencies(struct source *source, const struct cc *cc)
{
    const char *dot = strrchr(source->output, '.');
    const size_t length = dot == NULL ? strlen(source->output) : (size_t)(dot - source->output);

    snprintf(source->named, sizeof(source->named), "%.*s.d", (int)length, source->output);
    source->dependencies = cc->dependency_file != NULL ? cc->dependency_file : source->named;
    snprintf(source->target, sizeof(source->target), "%s.o", source->stem);
    if (cc->step != NULL)
        snprintf(source->target, sizeof(source->target), "%s", source->output);
}

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? path : slash + 1;
}

static size_t stem_length(const char *name)
{
    const char *dot = strrchr(name, '.');

    return dot == NULL || dot == name ? strlen(name) : (size_t)(dot - name);
}

static bool has_stem(const char *path, const char *stem)
{
    const char *name = name_of(path);
    const size_t length = strlen(stem);

    return strncmp(name, stem, length) == 0 && stem_length(name) == length;
}

/* How many sources of that name stand in front of it, in other directories. */
static unsigned count_namesakes(const struct cc *cc, size_t which, const char *stem)
{
    unsigned n = 0;

    for (size_t i = 0; i < which; i++)
        n += cc->kinds[i] == WORD_SOURCE && has_stem(cc->sources[i], stem);
    return n;
}

/* An object that is to be linked stands beside what is linked, as the compiler's do whose notes (.gcno, .dwo) are kept. */
static void name_object_to_link(struct source *source, const struct cc *cc, size_t which)
{
    const unsigned namesakes = count_namesakes(cc, which, source->stem);
    const char *output = cc->output == NULL ? "a" : cc->output;

    if (namesakes == 0)
        snprintf(source->object, sizeof(source->object), "%s-%s.o", output, source->stem);
    else
        snprintf(source->object, sizeof(source->object), "%s-%s-%u.o", output, source->stem, namesakes);
}

static bool links(const struct cc *cc)
{
    return cc->step == NULL && cc->preprocesses == NULL;
}

static void name_files(struct source *source, const struct cc *cc, size_t number)
{
    const char *name = name_of(source->path);

    snprintf(source->stem, sizeof(source->stem), "%.*s", (int)stem_length(name), name);
    snprintf(source->preprocessed, sizeof(source->preprocessed), "%s/%zu.i", cc->work, number);
    if (is_preprocessed(source->path) && cc->preprocesses == NULL)
        snprintf(source->preprocessed, sizeof(source->preprocessed), "%s", source->path);
    snprintf(source->rewritten, sizeof(source->rewritten), "%s/%zu-rewritten.i", cc->work, number);
    if (links(cc))
        name_object_to_link(source, cc, number);
    else
        snprintf(source->object, sizeof(source->object), "%s.%s", source->stem, cc->step != NULL && cc->step[1] == 'S' ? "s" : "o");
    source->output = !links(cc) && cc->output != NULL ? cc->output : source->object;
    name_dependencies(source, cc);
}

/* What stands beside a source that was typed is what stands here. */
static void add_beside(struct command *command, const struct source *source)
{
    if (source->typed)
        add_pair(command, "-iquote", ".");
}

/* Dependencies are written here: the second pass sees one file alone. */
static int preprocess(const struct cc *cc, const struct source *source)
{
    struct command command;

    if (!begin(&command, cc))
        return no_memory();
    add_beside(&command, source);
    add_words_of(&command, cc, 1u << WORD_FLAG | 1u << WORD_MACRO | 1u << WORD_DEPENDENCY);
    add_own(&command);
    add_search(&command, cc);
    if (cc->dependencies && cc->dependency_file == NULL)
        add_pair(&command, "-MF", source->dependencies);
    if (cc->dependencies && cc->dependency_target == NULL)
        add_pair(&command, "-MT", source->target);
    add_pair(&command, "-include", cc->seh);
    add_pair(&command, "-g0", "-E");            /* with -g3 it would print macros, too */
    add_pair(&command, "-x", "c");
    add(&command, source->path);
    add_pair(&command, "-o", source->preprocessed);
    return finish(&command);
}

/* What lies in our own directory is gone when the compiler has ended; what a forwarder leads to is among the dependencies by itself. */
static void print_dependencies(const struct cc *cc, const char *text, FILE *out)
{
    for (const char *at = text; *at != '\0';) {
        const size_t blanks = strspn(at, " \\\n"), length = strcspn(at + blanks, " \n");

        if (!begins(at + blanks, cc->work))
            fprintf(out, "%.*s", (int)(blanks + length), at);
        at += blanks + length;
    }
}

static void forget_own_files(const struct cc *cc, const struct source *source)
{
    const bool written = cc->dependencies || cc->dependency_file != NULL;
    char *text = written && (cc->forwards || source->typed) ? host_file_text(source->dependencies) : NULL;
    FILE *out = text == NULL ? NULL : fopen(source->dependencies, "w");

    if (out != NULL) {
        print_dependencies(cc, text, out);
        fclose(out);
    }
    free(text);
}

/* How much of a path is our own directory. */
static size_t own_length(const struct cc *cc, const char *path)
{
    const char *own = begins(path, cc->forwarders) ? cc->forwarders : cc->work;

    return begins(path, own) && path[strlen(own)] == '/' ? strlen(own) + 1 : 0;
}

/* The compiler marks where it enters a file, # 1 "/our/own/INC\\public.H" 1, and where it comes back: by the name as it was written. */
static void print_preprocessed(const struct cc *cc, const char *text, FILE *out)
{
    for (const char *line = text; *line != '\0'; line += *line == '\n') {
        const size_t quote = strcspn(line, "\"\n");
        const bool marks = begins(line, "# ") && line[quote] == '"';
        const size_t head = marks ? quote + 1 : 0;
        const char *rest = line + head + (marks ? own_length(cc, line + head) : 0);

        fwrite(line, 1, head, out);
        line = rest + strcspn(rest, "\n");
        fwrite(rest, 1, (size_t)(line - rest) + (*line == '\n'), out);
    }
}

/*
 * What it was preprocessed with is done; the compiler's markers and ours keep its lines. With a sanitizer gcc ends the life of each
 * local in a cleanup of its own, and takes the end of a block that returns for reachable.
 */
static int compile(const struct cc *cc, const struct source *source, enum rewritten outcome)
{
    const bool preprocessed = outcome == REWRITTEN || is_preprocessed(source->path);
    struct command command;

    if (!begin(&command, cc))
        return no_memory();
    if (!preprocessed)
        add_beside(&command, source);
    add_words_of(&command, cc, 1u << WORD_FLAG | (preprocessed ? 0 : 1u << WORD_MACRO));
    if (preprocessed && cc->sanitized)
        add(&command, "-Wno-return-type");
    add_own(&command);
    if (!preprocessed)
        add_search(&command, cc);
    add_pair(&command, "-x", preprocessed ? "cpp-output" : "c");
    add_pair(&command, cc->step == NULL ? "-c" : cc->step, outcome == REWRITTEN ? source->rewritten : source->path);
    add_pair(&command, "-o", source->output);
    return finish(&command);
}

static enum rewritten rewrite(const struct source *source)
{
    char *text = host_file_text(source->preprocessed);
    FILE *out = fopen(source->rewritten, "w");
    enum rewritten outcome = REWRITTEN_WRONGLY;

    if (text == NULL || out == NULL)
        cli_complain(0, "cannot work on '%s': %s", source->preprocessed, strerror(errno));
    else
        outcome = rewrite_source(text, out);
    free(text);
    if (out != NULL && fclose(out) != 0) {
        cli_complain(0, "cannot write '%s': %s", source->rewritten, strerror(errno));
        outcome = REWRITTEN_WRONGLY;
    }
    return outcome;
}

/* Everywhere that the caller's words have the compiler search, in the order of the words, and Pinion's own. */
static bool search(struct includes *includes, const struct cc *cc, const struct source *source)
{
    static const char *const names[] = {"-I", "-isystem", "-iquote", "-idirafter"};

    includes->directories = malloc((cc->nwords + 3) * sizeof(includes->directories[0]));
    if (includes->directories == NULL)
        return false;
    if (source->typed)
        includes->directories[includes->ndirectories++] = ".";
    for (size_t i = 0; i < cc->nwords; i++) {
        for (size_t j = 0; cc->kinds[i] == WORD_MACRO && j < sizeof(names) / sizeof(names[0]); j++) {
            const char *rest = begins(cc->words[i], names[j]) ? cc->words[i] + strlen(names[j]) : NULL;

            if (rest != NULL && (*rest != '\0' || i + 1 < cc->nwords))
                includes->directories[includes->ndirectories++] = *rest != '\0' ? rest : cc->words[i + 1];
        }
    }
    includes->directories[includes->ndirectories++] = cc->include;
    includes->directories[includes->ndirectories++] = cc->wdk;
    return true;
}

static bool prepare_includes(struct cc *cc, const struct source *source)
{
    struct includes includes = {.own = cc->include, .forwarders = cc->forwarders};
    const bool good = search(&includes, cc, source) && includes_prepare(&includes, source->path);

    cc->forwards |= includes.nforwarders > 0;
    includes_free(&includes);
    return good;
}

static int preprocess_as_windows(struct cc *cc, const struct source *source)
{
    if (!prepare_includes(cc, source))
        return cli_complain(CLI_USAGE, "cannot look through the #include lines of '%s': no memory, or '%s' is full", source->path, cc->work);
    return preprocess(cc, source);
}

/* Standard input, in a file that can be read more than once: under the name that gives the compiler's name for its object. */
static bool keep_typed(const struct cc *cc, struct source *source)
{
    char block[4096];
    FILE *out;
    size_t n;

    snprintf(source->kept, sizeof(source->kept), "%s/-.c", cc->work);
    source->path = source->kept;
    source->typed = true;
    out = fopen(source->kept, "w");
    if (out == NULL)
        return false;
    fputs("# 1 \"<stdin>\"\n", out);
    while ((n = fread(block, 1, sizeof(block), stdin)) > 0)
        fwrite(block, 1, n, out);
    return fclose(out) == 0 && !ferror(stdin);
}

static int begin_source(const struct cc *cc, struct source *source, size_t which)
{
    if (strcmp(source->path, "-") == 0 && !keep_typed(cc, source))
        return cli_complain(CLI_USAGE, "cannot keep what stands on standard input in '%s': %s", source->kept, strerror(errno));
    name_files(source, cc, which);
    return 0;
}

static int make_object(struct cc *cc, size_t which, char **object)
{
    struct source source = {.path = cc->words[which]};
    enum rewritten outcome;
    int code = begin_source(cc, &source, which);

    if (code == 0 && !is_preprocessed(source.path))
        code = preprocess_as_windows(cc, &source);
    if (code != 0)
        return code;
    outcome = rewrite(&source);
    if (outcome == REWRITTEN_WRONGLY)
        return CLI_WRONG;
    code = compile(cc, &source, outcome);
    forget_own_files(cc, &source);
    *object = code == 0 ? strdup(source.output) : NULL;
    return code == 0 && *object == NULL ? no_memory() : code;
}

/* What -E, -M or -MM gives, to where the caller wants it. */
static int hand_out(const struct cc *cc, const struct source *source)
{
    char *text = host_file_text(source->preprocessed);
    FILE *out = cc->output == NULL ? stdout : fopen(cc->output, "w");
    bool good = text != NULL && out != NULL;

    if (good && cc->preprocesses[1] == 'M')
        print_dependencies(cc, text, out);
    else if (good)
        print_preprocessed(cc, text, out);
    if (out != NULL)
        good = (out == stdout ? fflush(out) : fclose(out)) == 0 && good;
    free(text);
    return good ? 0 : cli_complain(CLI_USAGE, "cannot write '%s': %s", cc->output == NULL ? "standard output" : cc->output, strerror(errno));
}

static int show_preprocessed(struct cc *cc, size_t which)
{
    struct source source = {.path = cc->words[which]};
    int code = begin_source(cc, &source, which);

    if (code == 0)
        code = preprocess_as_windows(cc, &source);
    if (code != 0)
        return code;
    forget_own_files(cc, &source);
    return cc->preprocesses[1] == 'M' && cc->dependency_file != NULL ? 0 : hand_out(cc, &source);
}

/* ---- all of it ---- */

/* What the caller asked for, with what drivers need added. */
static int pass_on(const struct cc *cc, unsigned kinds)
{
    struct command command;

    if (!begin(&command, cc))
        return no_memory();
    add_words_of(&command, cc, kinds);
    if (cc->preprocesses != NULL)
        add_pair(&command, "-include", cc->seh);
    add_own(&command);
    add_search(&command, cc);
    return finish(&command);
}

/* The objects stand where the sources did. */
static int link_objects(const struct cc *cc)
{
    struct command command;

    if (!begin(&command, cc))
        return no_memory();
    add_words_of(&command, cc, ~(1u << WORD_MACRO | 1u << WORD_DEPENDENCY | 1u << WORD_LANGUAGE));
    add_own(&command);
    if (!cc->for_others) {
        add_pair(&command, cc->library, cc->rpath);
        add(&command, "-lpinion");
    }
    return finish(&command);
}

/* The compiler alone: what it is asked about itself is no matter of ours. */
static int ask_compiler(const struct cc *cc)
{
    struct command command = {.words = malloc((cc->nwords + 2) * sizeof(command.words[0]))};

    if (command.words == NULL)
        return no_memory();
    add(&command, cc->compiler);
    for (size_t i = 0; i < cc->nwords; i++)
        add(&command, cc->words[i]);
    return finish(&command);
}

static int work_on(struct cc *cc, size_t which)
{
    char *object;
    int code;

    if (cc->preprocesses != NULL)
        return show_preprocessed(cc, which);
    code = make_object(cc, which, &object);
    if (code == 0)
        cc->words[which] = object;
    return code;
}

static int work_on_each(struct cc *cc)
{
    int code = 0;

    for (size_t i = 0; i < cc->nwords && code == 0; i++)
        if (cc->kinds[i] == WORD_SOURCE)
            code = work_on(cc, i);
    return code;
}

static void forget_objects(const struct cc *cc)
{
    for (size_t i = 0; i < cc->nwords; i++) {
        if (cc->words[i] == cc->sources[i])
            continue;
        if (cc->step == NULL)
            remove(cc->words[i]);
        free(cc->words[i]);
    }
}

static int work_on_sources(struct cc *cc)
{
    int code, error;

    cc->words = malloc(cc->nwords * sizeof(cc->words[0]));
    if (cc->words == NULL)
        return no_memory();
    memcpy(cc->words, cc->sources, cc->nwords * sizeof(cc->words[0]));
    error = host_directory_create(cc->work, sizeof(cc->work));
    if (error != 0) {
        free(cc->words);
        return cli_complain(CLI_USAGE, "cannot make a directory for temporary files: %s; set TMPDIR to one that can be written",
                            strerror(-error));
    }
    snprintf(cc->forwarders, sizeof(cc->forwarders), "%s/1/2/3/4/5/6/7/8", cc->work);
    code = work_on_each(cc);
    if (code == 0 && links(cc))
        code = link_objects(cc);
    else if (code == 0 && cc->has_inputs)
        code = pass_on(cc, ~(1u << WORD_SOURCE | 1u << WORD_LANGUAGE));
    host_directory_remove(cc->work);
    forget_objects(cc);
    free(cc->words);
    return code;
}

/* From where this program lies: in a build tree or an installed one, wherever that was moved to. */
static bool find_own_files(struct cc *cc)
{
    char here[PATH_BYTES], pc[PATH_BYTES + 16];
    const int error = host_program_directory(here, sizeof(here));
    struct host_file file;

    if (error != 0) {
        cli_complain(0, "cannot find out where this program lies: %s", strerror(-error));
        return false;
    }
    snprintf(pc, sizeof(pc), "%s/pinion.pc", here);
    if (host_file_open(&file, pc, false) == 0) {
        host_file_close(&file);
        snprintf(cc->include, sizeof(cc->include), "%s", PINION_SOURCE_INCLUDE);
        snprintf(cc->wdk, sizeof(cc->wdk), "%s/wdk", PINION_SOURCE_INCLUDE);
        snprintf(cc->library, sizeof(cc->library), "-L%s", here);
    } else {
        snprintf(cc->include, sizeof(cc->include), "%s/%s", here, PINION_INSTALLED_INCLUDE);
        snprintf(cc->wdk, sizeof(cc->wdk), "%s/%s/pinion/wdk", here, PINION_INSTALLED_INCLUDE);
        snprintf(cc->library, sizeof(cc->library), "-L%s/%s", here, PINION_INSTALLED_LIBRARIES);
    }
    snprintf(cc->rpath, sizeof(cc->rpath), "-Wl,-rpath,%s", cc->library + 2);
    snprintf(cc->seh, sizeof(cc->seh), "%s/pinion/seh.h", cc->include);
    return true;
}

void cc_help(void)
{
    puts("pinion cc ARGUMENT...: compile as the C compiler would with these arguments, with what a driver needs.\n"
         "\n"
         "  pinion cc -g -fPIC -shared driver.c -o driver.so     a driver, for pinion run\n"
         "  pinion cc -g test.c driver.c -o test                 a program of its own, linked with libpinion\n"
         "  CC='pinion cc' make                                  in a build that knows a C compiler\n"
         "\n"
         "It adds the headers and the flags that pkg-config --cflags pinion tells, and turns what only Microsoft's compiler knows\n"
         "into what gcc and clang understand: __try, __except, __finally and __leave, literals like 10ui64, #include lines in\n"
         "another case or with backslashes. A function with __try is neither optimised nor inline. What -E gives has __try and\n"
         "literals as they were written, for pinion cc to compile. Sources in other languages are compiled as they are.\n"
         "PINION_CC names the compiler; without it that is cc.");
}

/* What the words ask for. */
static int carry_out(struct cc *cc)
{
    const char *step = cc->preprocesses != NULL ? cc->preprocesses : cc->step;

    if (step != NULL && cc->output != NULL && cc->nsources > 1)
        return cli_complain(CLI_USAGE, "-o names one file, and with %s there would be %u: leave it out", step, cc->nsources);
    if (cc->nsources == 0 && !cc->has_inputs)
        return ask_compiler(cc);
    if (cc->whole || (step != NULL && cc->nsources == 0))
        return pass_on(cc, ~0u);
    return work_on_sources(cc);
}

static int compile_words(const struct arguments *arguments)
{
    struct cc cc = {.compiler = getenv("PINION_CC"), .sources = arguments->words, .words = arguments->words, .nwords = arguments->n};
    int code;

    if (cc.compiler == NULL || *cc.compiler == '\0')
        cc.compiler = "cc";
    if (!find_own_files(&cc))
        return CLI_USAGE;
    cc.kinds = calloc(cc.nwords + 1, sizeof(cc.kinds[0]));
    if (cc.kinds == NULL)
        return no_memory();
    for (size_t i = 0; i < NDRIVER_FLAGS; i++)
        read_flag(&cc, driver_flags[i]);
    read_words(&cc);
    host_interrupts_catch();
    code = carry_out(&cc);
    free(cc.kinds);
    return code;
}

int cc_main(int argc, char **argv)
{
    struct arguments arguments;
    int code;

    if (argc < 2)
        return cli_complain(CLI_USAGE, "say what to compile: pinion cc -fPIC -shared driver.c -o driver.so; 'pinion help cc' tells more");
    code = arguments_expand(&arguments, argv + 1, (size_t)argc - 1) ? compile_words(&arguments) : CLI_USAGE;
    arguments_free(&arguments);
    return code;
}
