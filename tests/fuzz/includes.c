/* SPDX-License-Identifier: MIT */
/*
 * #include lines as `pinion cc` looks them through: an input is a source in a folder with a few headers, which include each other.
 *
 *     WORK/src/main.c, Header.h, sub/Deep.h, sub/other.H       the input, and what it may include
 *     WORK/out/1/2/3/4/5/6/7/8/                                where forwarders go; nothing may ever be written beside it
 *
 * Whatever the lines say, looking through them ends and succeeds, and each forwarder leads to a file that there is.
 */

#include "fuzz.h"

#include "cli/includes.h"

#include <ftw.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 256, TEXT_BYTES = 512, DESCRIPTORS = 16, ENTRIES = 8 };

static char work[PATH_BYTES];

static void path_in_work(char *path, const char *name)
{
    snprintf(path, 2 * PATH_BYTES, "%s/%s", work, name);
}

static void write_file(const char *name, const char *text)
{
    char path[2 * PATH_BYTES];
    FILE *file;

    path_in_work(path, name);
    file = fopen(path, "w");
    FUZZ_EXPECT(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0, "%s", path);
}

static void make_folder(const char *name)
{
    char path[2 * PATH_BYTES];

    path_in_work(path, name);
    FUZZ_EXPECT(mkdir(path, 0700) == 0, "%s", path);
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(path);
}

static void remove_work(void)
{
    nftw(work, remove_entry, DESCRIPTORS, FTW_DEPTH | FTW_PHYS);
}

static void make_work(void)
{
    const char *directory = getenv("TMPDIR");

    snprintf(work, sizeof(work), "%s/pinion-fuzz-XXXXXX", directory == NULL ? "/tmp" : directory);
    FUZZ_EXPECT(mkdtemp(work) != NULL);
    FUZZ_EXPECT(atexit(remove_work) == 0);
    make_folder("src");
    make_folder("src/sub");
    make_folder("out");
    write_file("src/Header.h", "#include \"SUB/deep.h\"\n#include \"sub/../HEADER.H\"\n");
    write_file("src/sub/Deep.h", "#include \"../header.h\"\n#include \"../sub/Deep.h\"\n#include <OTHER.h>\n");
    write_file("src/sub/other.H", "#include \"../sub/../sub/other.H\"\n");
}

/* ---- a source ---- */

static void write_text(struct fuzz_input *input, char *text, size_t room)
{
    static const char *const words[] = {
        "#include \"", "#include <", "# include\t\"", "\"\n", ">\n", "\n", "Header.h", "HEADER.H", "header.h", "sub", "SUB", "/", "\\", "../",
        "..\\", "./", ".\\", "..", "Deep.h", "deep.H", "other.h", "main.c", "none.h", " ", "//", "\"",
    };

    *text = '\0';
    while (input->left != 0 && strlen(text) + PATH_BYTES < room)
        strcat(text, words[fuzz_below(input, sizeof(words) / sizeof(words[0]))]);
}

/* ---- what came of it ---- */

static char written_for[TEXT_BYTES];
static unsigned nentries; /* beside the forwarders */

static int check_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    char line[2 * PATH_BYTES] = "", *end;
    FILE *file;

    (void)status, (void)walk;
    if (type != FTW_F)
        return 0;
    file = fopen(path, "r");
    FUZZ_EXPECT(file != NULL && fgets(line, sizeof(line), file) != NULL && strncmp(line, "#include \"", 10) == 0, "%s", path);
    fclose(file);
    end = strrchr(line, '"');
    *end = '\0';
    FUZZ_EXPECT(access(line + 10, R_OK) == 0 && strncmp(line + 10, work, strlen(work)) == 0, "%s leads to %s, for:\n%s", path, line + 10,
                written_for);
    return 0;
}

static int count_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    nentries += strncmp(path + strlen(work), "/out/", 5) != 0;
    return 0;
}

/* WORK, src and out, and the five things in src. */
static void check_forwarders(const char *out)
{
    nentries = 0;
    nftw(out, check_entry, DESCRIPTORS, FTW_PHYS);
    nftw(work, count_entry, DESCRIPTORS, FTW_PHYS);
    FUZZ_EXPECT(nentries == ENTRIES, "%u entries, for:\n%s", nentries, written_for);
    nftw(out, remove_entry, DESCRIPTORS, FTW_DEPTH | FTW_PHYS);
    make_folder("out");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    char source[2 * PATH_BYTES], forwarders[2 * PATH_BYTES], own[2 * PATH_BYTES], out[2 * PATH_BYTES];
    struct includes includes = {.own = own, .forwarders = forwarders};

    if (*work == '\0')
        make_work();
    path_in_work(out, "out");
    path_in_work(forwarders, "out/1/2/3/4/5/6/7/8");
    path_in_work(own, "own");
    path_in_work(source, "src/main.c");
    write_text(&input, written_for, sizeof(written_for));
    FUZZ_TRACE("%s\n", written_for);
    write_file("src/main.c", written_for);
    FUZZ_EXPECT(includes_prepare(&includes, source), "for:\n%s", written_for);
    if (includes.nforwarders != 0)
        check_forwarders(out);
    includes_free(&includes);
    return 0;
}
