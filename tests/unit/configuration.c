/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of lodge/configuration: every form of an option, --config both ways, and exact messages. */
#include <glib/gstdio.h>
#include <string.h>

#include "lodge/configuration.h"
#include "lodge/guest.h"

/* Words separated by '|', because arguments may have blanks. */
static struct config *parse(const char *line, GError **error)
{
    g_auto(GStrv) words = g_strsplit(line, "|", -1);

    return config_from_arguments(words, error);
}

static struct config *accept(const char *line)
{
    g_autoptr(GError) error = NULL;
    struct config *config = parse(line, &error);

    g_assert_no_error(error);
    return config;
}

static void assert_refused(const char *line, const char *message)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(parse(line, &error));
    g_assert_nonnull(error);
    g_assert_cmpstr(error->message, ==, message);
}

static const struct device_config *device(const struct config *config, guint index)
{
    g_assert_cmpuint(index, <, config->devices->len);
    return g_ptr_array_index(config->devices, index);
}

static uint64_t memory_of(const char *line)
{
    g_autoptr(config_t) config = accept(line);
    g_autoptr(GError) error = NULL;
    uint64_t bytes;

    g_assert_true(config_memory(config, &bytes, &error));
    return bytes;
}

/* ---- the command line ---- */

static void test_defaults(void)
{
    g_autoptr(config_t) config = accept("--no-reboot");

    g_assert_null(options_string(config->run, "kernel"));
    g_assert_cmpuint(options_uint(config->run, "cpus"), ==, 1);
    g_assert_true(options_bool(config->run, "defaults"));
    g_assert_true(options_bool(config->run, "no-reboot"));
    g_assert_null(config->command);
    g_assert_cmpuint(config->devices->len, ==, 0);
}

static void test_short_flags(void)
{
    g_autoptr(config_t) config =
        accept("-k|vmlinuz|-iinitrd|-p|quiet|-m|1G|-c2|-d|a.img|-n|type=null");

    g_assert_cmpstr(options_string(config->run, "kernel"), ==, "vmlinuz");
    g_assert_cmpstr(options_string(config->run, "initrd"), ==, "initrd");
    g_assert_cmpstr(options_list(config->run, "params")[0], ==, "quiet");
    g_assert_cmpuint(options_uint(config->run, "cpus"), ==, 2);
    g_assert_cmpstr(device(config, 0)->type->name, ==, "virtio-blk");
    g_assert_cmpstr(options_string(device(config, 0)->options, "path"), ==, "a.img");
    g_assert_cmpstr(device(config, 1)->type->name, ==, "virtio-net");
}

static void test_long_forms(void)
{
    g_autoptr(config_t) config = accept("--kernel=a=b|--cpus|3|--tty=off|--verbose|--|true");

    g_assert_cmpstr(options_string(config->run, "kernel"), ==, "a=b");
    g_assert_cmpuint(options_uint(config->run, "cpus"), ==, 3);
    g_assert_false(options_bool(config->run, "tty"));
    g_assert_true(options_bool(config->run, "verbose"));
}

static void test_memory_units(void)
{
    g_assert_cmpuint(memory_of("-m|300"), ==, UINT64_C(300) << 20);
    g_assert_cmpuint(memory_of("-m|300M"), ==, UINT64_C(300) << 20);
    g_assert_cmpuint(memory_of("-m|2G"), ==, UINT64_C(2) << 30);
    g_assert_cmpuint(memory_of("-m|1T"), ==, UINT64_C(1) << 40);
    g_assert_cmpuint(memory_of("-m|1048576K"), ==, UINT64_C(1) << 30);
    g_assert_cmpuint(memory_of("--verbose"), ==, UINT64_C(512) << 20);
}

static void test_a_later_value_counts(void)
{
    g_assert_cmpuint(memory_of("-m|300|--memory=400"), ==, UINT64_C(400) << 20);
}

static void test_lists_add_up(void)
{
    g_autoptr(config_t) config = accept("-p|a b|--params=c|-e|X=1|-e|Y|--|env");
    const char *const *params = options_list(config->run, "params");

    g_assert_cmpstr(params[0], ==, "a b");
    g_assert_cmpstr(params[1], ==, "c");
    g_assert_null(params[2]);
    g_assert_cmpstr(options_list(config->run, "env")[1], ==, "Y");
}

static void test_everything_after_the_dashes_is_the_command(void)
{
    g_autoptr(config_t) config = accept("-v|--|sh|-c|--kernel||--");

    g_assert_cmpuint(g_strv_length(config->command), ==, 5);
    g_assert_cmpstr(config->command[2], ==, "--kernel");
    g_assert_cmpstr(config->command[3], ==, "");
    g_assert_cmpstr(config->command[4], ==, "--");
    g_assert_null(options_string(config->run, "kernel"));
}

static void test_generic_devices(void)
{
    g_autoptr(config_t) config = accept("--device|rtc|--device|virtio-blk,path=a,,b.img|--rng");

    g_assert_cmpstr(device(config, 0)->type->name, ==, "rtc");
    g_assert_cmpstr(options_string(device(config, 1)->options, "path"), ==, "a,b.img");
    g_assert_cmpstr(device(config, 2)->type->name, ==, "virtio-rng");
    g_assert_true(config_has_device(config, "rtc"));
    g_assert_false(config_has_device(config, "virtio-net"));
}

/* What may follow an option whose value may be left out. */
static void test_optional_values(void)
{
    g_autoptr(config_t) config = accept("--gpu|width=800,scanouts=2|--rng|--gpu=height=600|-v");

    g_assert_cmpuint(options_uint(device(config, 0)->options, "width"), ==, 800);
    g_assert_cmpuint(options_uint(device(config, 0)->options, "scanouts"), ==, 2);
    g_assert_cmpuint(options_uint(device(config, 2)->options, "height"), ==, 600);
    g_assert_true(options_bool(config->run, "verbose"));
}

static void test_models(void)
{
    g_autoptr(config_t) config =
        accept("--net|null,model=vmxnet3|-n|model=vmxnet3,type=dgram,path=a"
               ",,model=b,local=c|--net=type=null,model=virtio");

    g_assert_cmpstr(device(config, 0)->type->name, ==, "vmxnet3");
    g_assert_cmpstr(options_string(device(config, 0)->options, "type"), ==, "null");
    g_assert_cmpstr(device(config, 1)->type->name, ==, "vmxnet3");
    g_assert_cmpstr(options_string(device(config, 1)->options, "path"), ==, "a,model=b");
    g_assert_cmpstr(options_string(device(config, 1)->options, "local"), ==, "c");
    g_assert_cmpstr(device(config, 2)->type->name, ==, "virtio-net");
    assert_refused("--net|type=null,model=e1000", "--net: model=e1000: must be virtio or vmxnet3");
}

static void test_rdma_brings_its_interface(void)
{
    g_autoptr(config_t) config =
        accept("--rdma|backend=null,net=type=dgram,path=a,,b,local=c|--rdma=null");

    g_assert_cmpuint(config->devices->len, ==, 4);
    g_assert_cmpstr(device(config, 0)->type->name, ==, "vmxnet3");
    g_assert_cmpstr(options_string(device(config, 0)->options, "path"), ==, "a,b");
    g_assert_cmpstr(options_string(device(config, 0)->options, "local"), ==, "c");
    g_assert_cmpstr(device(config, 1)->type->name, ==, "pvrdma");
    g_assert_cmpstr(options_string(device(config, 1)->options, "backend"), ==, "null");
    g_assert_cmpstr(device(config, 2)->type->name, ==, "vmxnet3");
    g_assert_cmpstr(device(config, 3)->type->name, ==, "pvrdma");
    assert_refused("--rdma|backend=none",
                   "--rdma: backend=none: must be one of loopback, verbs, null");
    assert_refused("--rdma|net=mtu=no", "--rdma: net: mtu=no: must be 576 to 65520");
}

static void test_messages(void)
{
    assert_refused("--memroy|1G", "unknown option --memroy (did you mean --memory?); "
                                  "`lodge run --help` lists them");
    assert_refused("-z", "unknown option -z; `lodge run --help` lists them");
    assert_refused("--kernel", "--kernel needs a value: --kernel FILE");
    assert_refused("-vx", "-v takes no value, but 'x' follows it");
    assert_refused("stray", "unexpected argument 'stray'; a command for the guest comes after --");
    assert_refused("--", "no command after --");
    assert_refused("-c|65", "--cpus 65: must be 1 to 64");
    assert_refused("-m|12M", "--memory 12M: must be whole mebibytes from 64M to 1T, for example "
                             "512M or 2G");
    assert_refused("-m|", "--memory : must be whole mebibytes from 64M to 1T, for example "
                          "512M or 2G");
    assert_refused("-m|99999999999999999999",
                   "--memory 99999999999999999999: must be whole mebibytes from 64M to 1T, for "
                   "example 512M or 2G");
    assert_refused("--timeout|nan",
                   "--timeout nan: must be seconds, more than 0, for example 30 or 0.5");
    assert_refused("--device|virtio-bkl", "--device: no device type 'virtio-bkl' (did you mean "
                                          "'virtio-blk'?); `lodge devices` lists them");
    assert_refused("--device|rtc,speed=2", "--device rtc: unknown key 'speed'; allowed: id");
}

static void test_every_option_is_described(void)
{
    for (const struct cli_option *option = cli_options; option->name; option++) {
        const struct option_spec *spec = run_options;

        if (!option->key) {
            g_assert_nonnull(option->help);
            g_assert_true(!option->type || device_type_find(option->type));
            continue;
        }
        while (spec->key && strcmp(spec->key, option->key))
            spec++;
        g_assert_nonnull(spec->key);
        g_assert_nonnull(spec->help);
    }
}

/* ---- options that do not go together ---- */

static void assert_conflict(const char *line, const char *message)
{
    g_autoptr(config_t) config = accept(line);
    g_autoptr(GError) error = NULL;

    g_assert_false(guest_complete_config(config, &error));
    g_assert_cmpstr(error->message, ==, message);
}

static void test_conflicts(void)
{
    assert_conflict("-i|a|--|true",
                    "--initrd and a command after -- exclude each other: the command "
                    "needs lodge's own initramfs");
    assert_conflict("-t", "--tty is for a command in the guest: give one after --");
    assert_conflict("-e|A=1", "--env is for a command in the guest: give one after --");
    assert_conflict("-i|a|--rwdir|/tmp",
                    "--rwdir is for a guest whose root is this machine's: give a command after --, "
                    "or leave --initrd and --disk out");
    assert_conflict("-i|a|--module|loop",
                    "--module and --initrd exclude each other: modules go into "
                    "lodge's own initramfs");
    assert_conflict("--rwdir|/a,b|--|true",
                    "--rwdir: /a,b: commas and double quotes don't pass a kernel command line; use "
                    "another name for the folder");
}

/* ---- JSON ---- */

struct file {
    char *folder, *path;
};

static void file_setup(struct file *file, gconstpointer data)
{
    file->folder = g_dir_make_tmp("lodge-config-XXXXXX", NULL);
    file->path = g_build_filename(file->folder, "c.json", NULL);
}

static void file_teardown(struct file *file, gconstpointer data)
{
    g_unlink(file->path);
    g_rmdir(file->folder);
    g_free(file->path);
    g_free(file->folder);
}

static char *with_file(const struct file *file, const char *before, const char *after)
{
    return g_strconcat(before, "--config|", file->path, after, NULL);
}

static void write_text(const struct file *file, const char *text)
{
    g_assert_true(g_file_set_contents(file->path, text, -1, NULL));
}

static void test_what_is_printed_can_be_loaded(struct file *file, gconstpointer data)
{
    g_autoptr(config_t) config = accept(
        "-m|300|-c|2|-p|a \"b\"|-p|c|--no-reboot|-e|A=b|--disk|x,,y.img,readonly|--net|type=null|"
        "--share|path=/"
        "srv,tag=t|--rdma|backend=verbs,device=rxe0,net=type=null|--timeout|7.5|--defaults|off|--|"
        "sh|-c|echo \\ \"x\"||");
    g_autoptr(GError) error = NULL;
    g_autofree char *first = NULL, *second = NULL, *line = with_file(file, "", "");
    g_autoptr(config_t) again = NULL;

    g_assert_true(guest_complete_config(config, &error));
    first = config_to_json(config);
    write_text(file, first);
    again = accept(line);
    g_assert_true(guest_complete_config(again, &error));
    second = config_to_json(again);
    g_assert_cmpstr(first, ==, second);
    g_assert_cmpuint(again->devices->len, ==, config->devices->len);
    g_assert_cmpstr(again->command[2], ==, "echo \\ \"x\"");
    g_assert_nonnull(strstr(second, "rxe0"));
}

static void test_the_command_line_overrides_the_file(struct file *file, gconstpointer data)
{
    g_autofree char *after = with_file(file, "", "|-m|400|-p|b");
    g_autofree char *before = with_file(file, "-m|400|", "");

    write_text(file, "{\"memory\": \"300\", \"params\": [\"a\"]}");
    g_assert_cmpuint(memory_of(after), ==, UINT64_C(400) << 20);
    g_assert_cmpuint(memory_of(before), ==, UINT64_C(400) << 20);
    g_autoptr(config_t) config = accept(after);
    g_assert_cmpstr(options_list(config->run, "params")[0], ==, "a");
    g_assert_cmpstr(options_list(config->run, "params")[1], ==, "b");
}

static void test_displays_that_can_t_be(void)
{
    assert_refused("--display|fax", "--display: type=fax: must be one of none, png, vnc, sdl");
    assert_refused("--display|png,listen=x", "--display: listen=x: does not go with type=png");
    assert_refused("--display|vnc=unix:/x", "--display: the machine has no screen; add --gpu");
    config_free(accept("--display|none"));
    config_free(accept("--gpu|--display|vnc=unix:/x|--display|sdl"));
}

static void assert_file_refused(const struct file *file, const char *text, const char *message)
{
    g_autofree char *line = with_file(file, "", "");
    g_autofree char *expected =
        g_strdup_printf("%s%s", message[0] == ':' ? file->path : "", message);
    g_autoptr(GError) error = NULL;

    write_text(file, text);
    g_assert_null(parse(line, &error));
    g_assert_nonnull(strstr(error->message, expected));
}

static void test_files_that_are_refused(struct file *file, gconstpointer data)
{
    g_autofree char *deep = g_strnfill(100000, '[');

    assert_file_refused(file, "[]", ": a JSON object is needed; `lodge run --dry-run` prints one");
    assert_file_refused(file, "{\"memroy\": 1}", "unknown key 'memroy' (did you mean 'memory'?)");
    assert_file_refused(file, "{\"cpus\": 99}", "--cpus 99: must be 1 to 64");
    assert_file_refused(file, "{\"cpus\": 1e99}", "cpus");
    assert_file_refused(file, "{\"cpus\": 99999999999999999999}", "cpus");
    assert_file_refused(file, "{\"command\": []}", ": \"command\" must be an array of strings");
    assert_file_refused(file, "{\"command\": [1]}", ": \"command\" must be an array of strings");
    assert_file_refused(file, "{\"devices\": 1}", ": \"devices\" must be an array");
    assert_file_refused(file, "{\"devices\": [{}]}", ": devices[0]: an object with a \"device\"");
    assert_file_refused(file, "{\"devices\": [{\"device\": \"rtx\"}]}",
                        ": devices[0]: no device type 'rtx' (did you mean 'rtc'?)");
    assert_file_refused(file, "{\"config\": \"x\"}", "\"config\" is not taken from a file");
    assert_file_refused(file, deep, "nested deeper than 16 levels");
    assert_file_refused(file, "{\"memory\": ", "--config: ");
}

static void test_a_file_without_end_is_refused(void)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(parse("--config|/dev/zero", &error));
    g_assert_cmpstr(error->message, ==, "--config: /dev/zero: is not a regular file");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(NAME) g_test_add_func("/configuration/" #NAME, test_##NAME)
#define ADD_FILE(NAME)                                                                             \
    g_test_add("/configuration/" #NAME, struct file, NULL, file_setup, test_##NAME, file_teardown)
    ADD(defaults);
    ADD(short_flags);
    ADD(long_forms);
    ADD(memory_units);
    ADD(a_later_value_counts);
    ADD(lists_add_up);
    ADD(everything_after_the_dashes_is_the_command);
    ADD(generic_devices);
    ADD(models);
    ADD(rdma_brings_its_interface);
    ADD(optional_values);
    ADD(messages);
    ADD(every_option_is_described);
    ADD(conflicts);
    ADD(displays_that_can_t_be);
    ADD_FILE(what_is_printed_can_be_loaded);
    ADD_FILE(the_command_line_overrides_the_file);
    ADD_FILE(files_that_are_refused);
    ADD(a_file_without_end_is_refused);
    return g_test_run();
}
