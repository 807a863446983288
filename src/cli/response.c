/* SPDX-License-Identifier: MIT */
/*
 * Response files, in the form that gcc and clang know: words parted by white space; quotes of either kind keep it, and a backslash
 * keeps what follows, but not between single quotes.
 */

#include "cli/response.h"

#include "cli/cli.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_FILES = 2000 };             /* as many as gcc reads: one that names itself ends there */

/* One word from the text, moved to its beginning without quotes and backslashes; where the rest begins. */
static char *take_word(char *text)
{
    char *to = text, quote = '\0';

    for (; *text != '\0' && (quote != '\0' || !isspace((unsigned char)*text)); text++) {
        if (*text == quote) {
            quote = '\0';
        } else if (quote == '\0' && (*text == '\'' || *text == '"')) {
            quote = *text;
        } else {
            text += *text == '\\' && quote != '\'' && text[1] != '\0';
            *to++ = *text;
        }
    }
    text += *text != '\0';
    *to = '\0';
    return text;
}

static char *skip_space(char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    return text;
}

static bool append(struct arguments *arguments, const char *word)
{
    char **words = realloc(arguments->words, (arguments->n + 1) * sizeof(words[0]));

    if (words == NULL)
        return false;
    arguments->words = words;
    words[arguments->n] = strdup(word);
    return words[arguments->n] != NULL && ++arguments->n != 0;
}

static bool append_words_of(struct arguments *arguments, char *text)
{
    for (text = skip_space(text); *text != '\0'; text = skip_space(text)) {
        char *rest = take_word(text);

        if (!append(arguments, text))
            return false;
        text = rest;
    }
    return true;
}

/* The word, or those of the file that it names; `files` counts the latter. */
static bool append_expanded(struct arguments *arguments, const char *word, unsigned *files)
{
    char *text = word[0] == '@' && *files < MOST_FILES ? host_file_text(word + 1) : NULL;
    bool done;

    if (text == NULL)
        return append(arguments, word);
    ++*files;
    done = append_words_of(arguments, text);
    free(text);
    return done;
}

static bool expand_once(struct arguments *arguments, char *const *words, size_t n, unsigned *files)
{
    *arguments = (struct arguments){0};
    for (size_t i = 0; i < n; i++)
        if (!append_expanded(arguments, words[i], files))
            return false;
    return true;
}

bool arguments_expand(struct arguments *arguments, char **words, size_t n)
{
    unsigned files = 0, before = 0;
    bool done = expand_once(arguments, words, n, &files);

    while (done && files != before && files < MOST_FILES) {
        struct arguments old = *arguments;

        before = files;
        done = expand_once(arguments, old.words, old.n, &files);
        arguments_free(&old);
    }
    if (!done)
        cli_complain(0, "there is not enough memory for the arguments");
    else if (files == MOST_FILES)
        cli_complain(0, "there are %d response files and no end: look for one that names itself", MOST_FILES);
    return done && files < MOST_FILES;
}

void arguments_free(struct arguments *arguments)
{
    for (size_t i = 0; i < arguments->n; i++)
        free(arguments->words[i]);
    free(arguments->words);
}
