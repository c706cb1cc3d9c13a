/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of vmm/options: every type from text and JSON and back, and the exact text of errors. */
#include <string.h>

#include "vmm/options.h"

static const char *const cache_modes[] = {"writeback", "none", "unsafe", NULL};

static const struct option_spec disk_specs[] = {
    {"path", OPTION_PATH, .flags = OPTION_REQUIRED | OPTION_FIRST, .help = "image file"},
    {"readonly", OPTION_BOOL, .value = "off"},
    {"queues", OPTION_UINT, .value = "1", .min = 1, .max = 64},
    {"size", OPTION_SIZE, .min = 4096},
    {"window", OPTION_SIZE, .min = 64 << 10, .max = 1 << 30},
    {"offset", OPTION_SIZE},
    {"cache", OPTION_ENUM, .value = "writeback", .choices = cache_modes},
    {"mac", OPTION_MAC},
    {"forward", OPTION_LIST},
    {"dns", OPTION_LIST, .value = "10.0.2.3"},
    {"serial", OPTION_STRING},
    {"any", OPTION_UINT},
    {"least", OPTION_UINT, .min = 3},
    {},
};
static const struct option_spec no_specs[] = {{}};

static struct options *parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    struct options *options = options_parse(disk_specs, "--disk", text, &error);

    g_assert_no_error(error);
    return options;
}

static struct options *from_json(const char *text, GError **error)
{
    g_autoptr(JsonNode) node = json_from_string(text, NULL);

    g_assert_nonnull(node);
    return options_from_json(disk_specs, "--disk", json_node_get_object(node), error);
}

static void test_defaults(void)
{
    g_autoptr(options_t) options = parse("path=a.img");
    uint8_t mac[6];

    g_assert_cmpstr(options_what(options), ==, "--disk");
    g_assert_cmpstr(options_string(options, "path"), ==, "a.img");
    g_assert_false(options_bool(options, "readonly"));
    g_assert_cmpuint(options_uint(options, "queues"), ==, 1);
    g_assert_cmpuint(options_uint(options, "size"), ==, 0);
    g_assert_cmpstr(options_string(options, "cache"), ==, "writeback");
    g_assert_null(options_string(options, "serial"));
    g_assert_false(options_mac(options, "mac", mac));
    g_assert_null(options_list(options, "forward")[0]);
    g_assert_cmpstr(options_list(options, "dns")[0], ==, "10.0.2.3");
    g_assert_true(options_given(options, "path"));
    g_assert_false(options_given(options, "queues"));
}

static void test_every_type(void)
{
    g_autoptr(options_t) options =
        parse("path=b,readonly=yes,queues=0x10,size=64M,cache=none,mac=52:54:00:Ab:cd:eF,"
              "forward=tcp::1,forward=tcp::2,serial=x=y,any=18446744073709551615,dns=1.1.1.1");
    static const uint8_t expected[6] = {0x52, 0x54, 0, 0xab, 0xcd, 0xef};
    uint8_t mac[6];

    g_assert_true(options_bool(options, "readonly"));
    g_assert_cmpuint(options_uint(options, "queues"), ==, 16);
    g_assert_cmpuint(options_uint(options, "size"), ==, 64 << 20);
    g_assert_cmpuint(options_uint(options, "any"), ==, UINT64_MAX);
    g_assert_cmpstr(options_string(options, "cache"), ==, "none");
    g_assert_true(options_mac(options, "mac", mac));
    g_assert_cmpmem(mac, 6, expected, 6);
    g_assert_cmpstr(options_list(options, "forward")[0], ==, "tcp::1");
    g_assert_cmpstr(options_list(options, "forward")[1], ==, "tcp::2");
    g_assert_null(options_list(options, "forward")[2]);
    g_assert_cmpstr(options_list(options, "dns")[0], ==, "1.1.1.1");
    g_assert_null(options_list(options, "dns")[1]);
    g_assert_cmpstr(options_string(options, "serial"), ==, "x=y");
}

static void test_first_value_may_be_bare(void)
{
    g_autoptr(options_t) plain = parse("a.img,readonly");
    g_assert_cmpstr(options_string(plain, "path"), ==, "a.img");
    g_assert_true(options_bool(plain, "readonly"));
    g_autoptr(options_t) named_like_a_key = parse("readonly");
    g_assert_cmpstr(options_string(named_like_a_key, "path"), ==, "readonly");
    g_autoptr(options_t) with_equals = parse("/tmp/a=b.img,queues=2");
    g_assert_cmpstr(options_string(with_equals, "path"), ==, "/tmp/a=b.img");
}

static void test_doubled_commas(void)
{
    g_autoptr(options_t) options = parse("path=a,,b,serial=,,,,x,,");

    g_assert_cmpstr(options_string(options, "path"), ==, "a,b");
    g_assert_cmpstr(options_string(options, "serial"), ==, ",,x,");
    g_autofree char *text = options_to_text(options);
    g_assert_cmpstr(text, ==, "path=a,,b,serial=,,,,x,,");
    g_autoptr(options_t) bare = parse("a,,b,readonly");
    g_assert_cmpstr(options_string(bare, "path"), ==, "a,b");
}

static void test_bool_words(void)
{
    static const struct {
        const char *text;
        bool value;
    } cases[] = {{"on", true},   {"true", true},   {"yes", true}, {"1", true},
                 {"off", false}, {"false", false}, {"no", false}, {"0", false}};

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *text = g_strdup_printf("x,readonly=%s", cases[i].text);
        g_autoptr(options_t) options = parse(text);
        g_assert_true(options_bool(options, "readonly") == cases[i].value);
    }
}

static void test_sizes(void)
{
    static const struct {
        const char *text;
        bool ok;
        uint64_t bytes;
    } cases[] = {
        {"0", true, 0},
        {"4096", true, 4096},
        {"0x1000", true, 4096},
        {"0xfFfB", true, 0xfffb},
        {"1k", true, 1024},
        {"64M", true, 64 << 20},
        {"3G", true, UINT64_C(3) << 30},
        {"16777215T", true, UINT64_C(16777215) << 40},
        {"16777216T", false, 0},
        {"18446744073709551615", true, UINT64_MAX},
        {"18446744073709551616", false, 0},
        {"", false, 0},
        {"M", false, 0},
        {"-1", false, 0},
        {"+1", false, 0},
        {" 1", false, 0},
        {"1 M", false, 0},
        {"1.5G", false, 0},
        {"1MB", false, 0},
        {"1P", false, 0},
        {"0x", false, 0},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        uint64_t bytes = 0;
        g_test_message("%s", cases[i].text);
        g_assert_true(options_parse_size(cases[i].text, &bytes) == cases[i].ok);
        g_assert_cmpuint(bytes, ==, cases[i].bytes);
    }
}

#define ALLOWED                                                                                    \
    "path, readonly, queues, size, window, offset, cache, mac, forward, dns, serial, any, least"

static void test_error_texts(void)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"a,queues=99", "--disk: queues=99: must be 1 to 64"},
        {"a,queues=0", "--disk: queues=0: must be 1 to 64"},
        {"a,queues=-1", "--disk: queues=-1: must be 1 to 64"},
        {"a,queues=two", "--disk: queues=two: must be 1 to 64"},
        {"a,queues=", "--disk: queues=: must be 1 to 64"},
        {"a,least=2", "--disk: least=2: must be at least 3"},
        {"a,any=1x", "--disk: any=1x: must be a number"},
        {"a,any=18446744073709551616", "--disk: any=18446744073709551616: must be a number"},
        {"a,size=1K", "--disk: size=1K: must be at least 4K"},
        {"a,window=2G", "--disk: window=2G: must be 64K to 1G"},
        {"a,offset=7Q", "--disk: offset=7Q: must be a size in bytes, or with suffix K, M, G or T"},
        {"a,readonly=maybe", "--disk: readonly=maybe: must be on or off"},
        {"a,raedonly",
         "--disk: unknown key 'raedonly' (did you mean 'readonly'?); allowed: " ALLOWED},
        {"a,read=on", "--disk: unknown key 'read' (did you mean 'readonly'?); allowed: " ALLOWED},
        {"a,xyzzy=1", "--disk: unknown key 'xyzzy'; allowed: " ALLOWED},
        {"a,=1", "--disk: unknown key ''; allowed: " ALLOWED},
        {"a,cache=non",
         "--disk: cache=non: must be one of writeback, none, unsafe (did you mean 'none'?)"},
        {"a,cache=direct", "--disk: cache=direct: must be one of writeback, none, unsafe"},
        {"a,mac=12", "--disk: mac=12: must be a unicast MAC address such as 52:54:00:12:34:56"},
        {"a,mac=01:00:5e:00:00:01", "--disk: mac=01:00:5e:00:00:01: must be a unicast MAC address "
                                    "such as 52:54:00:12:34:56"},
        {"a,mac=00:00:00:00:00:00", "--disk: mac=00:00:00:00:00:00: must be a unicast MAC address "
                                    "such as 52:54:00:12:34:56"},
        {"a,queues=2,queues=3", "--disk: queues=3: queues was already given as '2'"},
        {"a,path=b", "--disk: path=b: path was already given as 'a'"},
        {"a,queues", "--disk: queues: needs a value: queues=..."},
        {"path=", "--disk: path=: must name a file"},
        {"", "--disk: path=... is missing (image file)"},
        {"readonly=on", "--disk: path=... is missing (image file)"},
        {"a,", "--disk: nothing before or after a comma (a comma in a value is doubled: ',,')"},
        {",queues=1",
         "--disk: nothing before or after a comma (a comma in a value is doubled: ',,')"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(options_parse(disk_specs, "--disk", cases[i].text, &error));
        g_assert_true(error->domain == OPTIONS_ERROR);
        g_assert_cmpstr(error->message, ==, cases[i].message);
    }
}

static void test_no_options_at_all(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(options_t) options = options_parse(no_specs, "--gpu", NULL, NULL);

    g_assert_nonnull(options);
    g_assert_null(options_parse(no_specs, "--gpu", "x=1", &error));
    g_assert_cmpstr(error->message, ==, "--gpu: unknown key 'x'; it takes no options");
}

static void test_suggestions(void)
{
    static const char *const words[] = {"path", "readonly", "queues", "fd", "ifname", NULL};
    static const struct {
        const char *word, *suggestion;
    } cases[] = {
        {"readonly", "readonly"},
        {"raedonly", "readonly"},
        {"ReadOnly", "readonly"},
        {"readnly", "readonly"},
        {"readonlyy", "readonly"},
        {"read-only", "readonly"},
        {"queue", "queues"},
        {"que", "queues"},
        {"pth", "path"},
        {"paht", "path"},
        {"fx", "fd"},
        {"df", "fd"},
        {"zzzz", NULL},
        {"", NULL},
        {"ifnaem", "ifname"},
        {"a-very-long-word-that-no-key-can-resemble-at-all", NULL},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_test_message("%s", cases[i].word);
        g_assert_cmpstr(options_suggest(cases[i].word, words), ==, cases[i].suggestion);
    }
}

static void test_json_in(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(options_t) options =
        from_json("{\"path\": \"a,b\", \"readonly\": true, \"queues\": 4, \"size\": \"1G\","
                  "\"offset\": 8192, \"forward\": [\"x\", \"y\"], \"dns\": \"z\"}",
                  &error);

    g_assert_no_error(error);
    g_assert_cmpstr(options_string(options, "path"), ==, "a,b");
    g_assert_true(options_bool(options, "readonly"));
    g_assert_cmpuint(options_uint(options, "queues"), ==, 4);
    g_assert_cmpuint(options_uint(options, "size"), ==, 1 << 30);
    g_assert_cmpuint(options_uint(options, "offset"), ==, 8192);
    g_assert_cmpstr(options_list(options, "forward")[1], ==, "y");
    g_assert_cmpstr(options_list(options, "dns")[0], ==, "z");
}

static void test_json_errors(void)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{}", "--disk: path=... is missing (image file)"},
        {"{\"path\": 7}", "--disk: path=7: must be a string"},
        {"{\"path\": null}", "--disk: path=null: must be a string"},
        {"{\"path\": [\"a\"]}", "--disk: path=[\"a\"]: must be a string"},
        {"{\"readonly\": 1}", "--disk: readonly=1: must be true or false"},
        {"{\"queues\": 99}", "--disk: queues=99: must be 1 to 64"},
        {"{\"queues\": -1}", "--disk: queues=-1: must be 1 to 64"},
        {"{\"queues\": 1.5}", "--disk: queues=1.5: must be a number"},
        {"{\"queues\": true}", "--disk: queues=true: must be a number"},
        {"{\"size\": {}}",
         "--disk: size={}: must be a number of bytes or a string such as \"64M\""},
        {"{\"forward\": [1]}", "--disk: forward=1: must be an array of strings"},
        {"{\"forward\": {}}", "--disk: forward={}: must be an array of strings"},
        {"{\"Path\": \"a\"}",
         "--disk: unknown key 'Path' (did you mean 'path'?); allowed: " ALLOWED},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(from_json(cases[i].text, &error));
        g_assert_cmpstr(error->message, ==, cases[i].message);
    }
}

static char *json_text(JsonObject *object)
{
    g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), object);

    json_object_unref(object);
    return json_to_string(node, FALSE);
}

static void test_json_out(void)
{
    g_autoptr(options_t) options = parse("a.img,queues=2,size=64K,forward=x,forward=y,readonly");
    g_autofree char *given = json_text(options_to_json(options, false));
    g_autofree char *all = json_text(options_to_json(options, true));

    g_assert_cmpstr(given, ==,
                    "{\"path\":\"a.img\",\"readonly\":true,\"queues\":2,\"size\":65536,"
                    "\"forward\":[\"x\",\"y\"]}");
    g_assert_cmpstr(all, ==,
                    "{\"path\":\"a.img\",\"readonly\":true,\"queues\":2,\"size\":65536,"
                    "\"cache\":\"writeback\",\"forward\":[\"x\",\"y\"],\"dns\":[\"10.0.2.3\"]}");
}

static void test_round_trips(void)
{
    static const char *const texts[] = {
        "a.img",
        "a,,b.img,readonly,queues=64",
        "path=x,size=1G,offset=7,cache=unsafe,mac=52:54:00:12:34:56,serial=,any=0xffffffffffffffff",
        "x,forward=a,,b,forward=,forward=c=d,dns=q",
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(options_t) first = parse(texts[i]);
        g_autofree char *text = options_to_text(first);
        g_autoptr(options_t) second = parse(text);
        g_autofree char *text2 = options_to_text(second);
        g_assert_cmpstr(text, ==, text2);
        g_autofree char *json = json_text(options_to_json(first, true));
        g_autofree char *json2 = json_text(options_to_json(second, true));
        g_assert_cmpstr(json, ==, json2);
        g_autoptr(GError) error = NULL;
        g_autoptr(options_t) third = from_json(json, &error);
        g_assert_no_error(error);
        g_autofree char *json3 = json_text(options_to_json(third, true));
        g_assert_cmpstr(json, ==, json3);
    }
}

static void test_set_error_names_the_value(void)
{
    g_autoptr(options_t) options = parse("a.img,forward=x");
    g_autoptr(GError) with_value = NULL, without = NULL, list = NULL, bare = NULL, none = NULL;

    options_set_error(&with_value, options, "path", "no such file; create it with %s", "truncate");
    g_assert_cmpstr(with_value->message, ==,
                    "--disk: path=a.img: no such file; create it with truncate");
    options_set_error(&without, options, "serial", "is needed");
    g_assert_cmpstr(without->message, ==, "--disk: serial: is needed");
    options_set_error(&list, options, "forward", "is odd");
    g_assert_cmpstr(list->message, ==, "--disk: forward: is odd");
    options_set_error(&bare, options, NULL, "does not go together");
    g_assert_cmpstr(bare->message, ==, "--disk: does not go together");
    options_set_error(&none, NULL, NULL, "plain");
    g_assert_cmpstr(none->message, ==, "plain");
}

static void test_reference_counting(void)
{
    struct options *options = parse("a");
    struct options *second = options_ref(options);

    options_free(options);
    g_assert_cmpstr(options_string(second, "path"), ==, "a");
    options_free(second);
    options_free(NULL);
}

static void ask_unknown(void)
{
    g_autoptr(options_t) options = parse("a");
    options_string(options, "nonsense");
}

static void ask_other_type(void)
{
    g_autoptr(options_t) options = parse("a");
    options_uint(options, "path");
}

static void test_getters_check_the_table(void)
{
    if (g_test_subprocess()) {
        ask_unknown();
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*--disk has no option 'nonsense'*");
}

static void test_getters_check_the_type(void)
{
    if (g_test_subprocess()) {
        ask_other_type();
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*--disk: option 'path' has another type*");
}

static void test_json_that_is_not_flat(void)
{
    g_autofree char *many = g_strnfill(101, '[');
    g_autofree char *quoted = g_strconcat("'\"'", many, NULL);

    g_assert_true(options_json_is_flat("{\"a\": [1, {}], \"b\": \"[[[[{{{{\\\"[[\"}", 3, 100));
    g_assert_false(options_json_is_flat("{\"a\": [1, {}]}", 2, 100));
    g_assert_true(options_json_is_flat("[[], [], []]", 2, 4));
    g_assert_false(options_json_is_flat("[[], [], []]", 2, 3));
    /* The parser knows single quotes; a text that hides its brackets from us that way is counted. */
    g_assert_false(options_json_is_flat(quoted, 16, 100));
    g_assert_true(options_json_is_flat("", 0, 0));
}

#define ADD(NAME) g_test_add_func("/options/" #NAME, test_##NAME)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(defaults);
    ADD(every_type);
    ADD(first_value_may_be_bare);
    ADD(doubled_commas);
    ADD(bool_words);
    ADD(sizes);
    ADD(error_texts);
    ADD(no_options_at_all);
    ADD(suggestions);
    ADD(json_in);
    ADD(json_errors);
    ADD(json_out);
    ADD(round_trips);
    ADD(set_error_names_the_value);
    ADD(reference_counting);
    ADD(json_that_is_not_flat);
    ADD(getters_check_the_table);
    ADD(getters_check_the_type);
    return g_test_run();
}
