/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * manual - everything that is read about options: --help, `lodge devices`, the manual page and the
 * shell completion, all from the option tables
 */
#include <stdio.h>
#include <inttypes.h>
#include <string.h>

#include "backends/display/display.h"
#include "config.h"
#include "lodge/commands.h"
#include "lodge/configuration.h"
#include "lodge/control.h"
#include "lodge/exitcode.h"
#include "lodge/types.h"
#include "vmm/trace.h"

static const struct {
    const char *code, *meaning;
} exit_codes[] = {
    {"0-123", "with a command: its own exit status (128+N: signal N ended it)"},
    {"0", "without a command: the guest powered off"},
    {"32", "the guest reset, with --no-reboot"},
    {"33", "triple fault"},
    {"34", "the guest's kernel panicked"},
    {"36", "the guest's watchdog expired"},
    {"37", "KVM can't go on (internal error, failed entry)"},
    {"124", "--timeout"},
    {"125", "an option, configuration or host error; or the guest ended before its command"},
    {"126, 127", "the command can't be run, was not found"},
};

static const struct option_spec *run_spec(const char *key)
{
    const struct option_spec *spec = run_options;

    while (spec->key && strcmp(spec->key, key))
        spec++;
    return spec->key ? spec : NULL;
}

static const char *option_help(const struct cli_option *option)
{
    return option->key ? run_spec(option->key)->help : option->help;
}

/* What values a key takes: "on|off", "1 to 64", "a|b|c". The caller frees it. */
static char *describe_values(const struct option_spec *spec)
{
    switch (spec->type) {
    case OPTION_BOOL:
        return g_strdup("on|off");
    case OPTION_ENUM:
        return g_strjoinv("|", (char **)spec->choices);
    case OPTION_UINT:
        return spec->max ? g_strdup_printf("%" PRIu64 " to %" PRIu64, spec->min, spec->max)
                         : g_strdup("number");
    case OPTION_SIZE:
        return g_strdup("size (K, M, G, T)");
    case OPTION_PATH:
        return g_strdup("path");
    case OPTION_MAC:
        return g_strdup("xx:xx:xx:xx:xx:xx");
    case OPTION_LIST:
        return g_strdup("text, may be repeated");
    default:
        return g_strdup("text");
    }
}

void print_run_help(void)
{
    printf(
        "Usage: lodge run [OPTION...] [-- COMMAND [ARGUMENT...]]\n\n"
        "Starts a guest. With a command, runs it in a guest whose root is a copy-on-write view of\n"
        "this machine's, and returns its output and exit status.\n\nOptions:\n");
    for (const struct cli_option *option = cli_options; option->name; option++) {
        const struct option_spec *spec = option->key ? run_spec(option->key) : NULL;
        g_autofree char *name =
            g_strdup_printf("--%s%s%s", option->name, option->argument ? " " : "",
                            option->argument ? option->argument : "");
        char letter[5] = "    ";

        if (option->letter)
            g_snprintf(letter, sizeof(letter), "-%c, ", option->letter);
        printf("  %s%-34s %s", letter, name, option_help(option));
        if (spec && spec->value && spec->type != OPTION_BOOL)
            printf(" (default: %s)", spec->value);
        printf("\n");
    }
    printf("\nExit codes:\n");
    for (unsigned i = 0; i < G_N_ELEMENTS(exit_codes); i++)
        printf("  %-9s %s\n", exit_codes[i].code, exit_codes[i].meaning);
}

/* ---- lodge devices ---- */

static void print_device(const struct device_type *type)
{
    printf("%s - %s\n", type->name, type->summary);
    if (type->manual)
        printf("\n%s\n", type->manual);
    printf("\n  --device %s,KEY=VALUE,...\n\n", type->name);
    for (const struct option_spec *spec = device_type_options(type); spec->key; spec++) {
        g_autofree char *values = describe_values(spec);

        printf("  %-16s %s\n  %-16s   %s%s%s%s\n", spec->key, spec->help, "", values,
               spec->value ? ", default " : "", spec->value ? spec->value : "",
               spec->flags & OPTION_REQUIRED ? ", required" : "");
    }
}

static void print_event(const struct trace_event *event, void *opaque)
{
    printf("%-28s %s\n", event->name, event->format);
}

int command_devices(char **argv)
{
    const struct device_type *type;

    if (!argv[0]) {
        for (unsigned i = 0; device_types[i]; i++)
            printf("%-16s %s\n", device_types[i]->name, device_types[i]->summary);
        return 0;
    }
    if (!strcmp(argv[0], "--help") || !strcmp(argv[0], "-h")) {
        printf("Usage: lodge devices [TYPE]\n       lodge devices --trace\n\n"
               "Lists device types, shows the manual of one, or lists all trace events.\n");
        return 0;
    }
    if (!strcmp(argv[0], "--trace")) {
        trace_for_each(print_event, NULL);
        return 0;
    }
    type = device_type_find(argv[0]);
    if (!type) {
        fprintf(stderr, "lodge: no device type '%s'; `lodge devices` lists them\n", argv[0]);
        return EXIT_LODGE;
    }
    print_device(type);
    return 0;
}

/* ---- the manual page ---- */

/* Text for troff: a leading dot and backslashes are protected, hyphens stay hyphens. */
static void roff(const char *text)
{
    if (*text == '.' || *text == '\'')
        printf("\\&");
    for (; *text; text++) {
        if (*text == '\\')
            printf("\\e");
        else if (*text == '-')
            printf("\\-");
        else
            putchar(*text);
    }
}

static void roff_item(const char *name, const char *argument, const char *help, const char *more)
{
    printf(".TP\n.B ");
    roff(name);
    if (argument) {
        printf(" ");
        roff(argument);
    }
    printf("\n");
    roff(help);
    if (more) {
        printf(" (default: ");
        roff(more);
        printf(")");
    }
    printf("\n");
}

static void roff_options(void)
{
    printf(".SH OPTIONS OF RUN\n");
    for (const struct cli_option *option = cli_options; option->name; option++) {
        g_autofree char *name = option->letter
                                    ? g_strdup_printf("-%c, --%s", option->letter, option->name)
                                    : g_strdup_printf("--%s", option->name);
        const struct option_spec *spec = option->key ? run_spec(option->key) : NULL;

        roff_item(name, option->argument, option_help(option),
                  spec && spec->type != OPTION_BOOL ? spec->value : NULL);
    }
}

static void roff_keys(const struct option_spec *spec)
{
    for (; spec->key; spec++) {
        g_autofree char *values = describe_values(spec);
        g_autofree char *name = g_strdup_printf("%s=", spec->key);

        roff_item(name, values, spec->help, spec->value);
    }
}

static void roff_devices(void)
{
    printf(".SH DEVICES\nKeys of --device TYPE,KEY=VALUE,... and of the short forms.\n");
    for (unsigned i = 0; device_types[i]; i++) {
        printf(".SS %s\n", device_types[i]->name);
        roff(device_types[i]->summary);
        printf("\n");
        roff_keys(device_type_options(device_types[i]));
    }
}

static void roff_displays(void)
{
    printf(
        ".SH DISPLAYS\nWho looks at the screens of a machine with a GPU, and has its keyboard and "
        "pointer: \\-\\-display TYPE,KEY=VALUE... \\-\\-display vnc=WHERE is "
        "\\-\\-display vnc,listen=WHERE.\n");
    roff_keys(display_options);
}

int command_manual(char **argv)
{
    if (argv[0] && !strcmp(argv[0], "control")) {
        print_control_page();
        return 0;
    }
    printf(".TH LODGE 1 \"\" \"lodge %s\" \"User Commands\"\n", LODGE_VERSION);
    printf(".SH NAME\nlodge \\- a small KVM virtual machine monitor\n.SH SYNOPSIS\n");
    for (const struct subcommand *command = subcommands; command->name; command++) {
        if (command->hidden)
            continue;
        printf(".B lodge %s\n", command->name);
        roff(command->usage[0] ? command->usage : " ");
        printf("\n.br\n");
    }
    printf(".SH DESCRIPTION\nBoots an unmodified Linux guest whose stock drivers exercise every "
           "device end to end.\n.SH COMMANDS\n");
    for (const struct subcommand *command = subcommands; command->name; command++)
        if (!command->hidden)
            roff_item(command->name, NULL, command->help, NULL);
    roff_options();
    roff_devices();
    roff_displays();
    printf(".SH CONTROL SOCKET\nCommands of lodge ctl, in QMP's wire form on the socket.\n");
    for (const struct control_command *command = control_commands; command->name; command++)
        roff_item(command->name, NULL, command->help, NULL);
    printf(".SH EXIT STATUS\n");
    for (unsigned i = 0; i < G_N_ELEMENTS(exit_codes); i++)
        roff_item(exit_codes[i].code, NULL, exit_codes[i].meaning, NULL);
    return 0;
}

/* ---- completion ---- */

static void complete_display(void)
{
    printf("compopt -o nospace; COMPREPLY=($(compgen -W '");
    for (const struct option_spec *spec = display_options; spec->key; spec++) {
        if (!(spec->flags & OPTION_FIRST))
            printf("%s= ", spec->key);
        else
            for (unsigned i = 0; spec->choices[i]; i++)
                printf("%s, ", spec->choices[i]);
    }
    printf("' -- \"${word##*,}\")); return ;;\n");
}

static void complete_devices(void)
{
    printf("    case \"${COMP_WORDS[COMP_CWORD-1]}\" in\n");
    for (const struct cli_option *option = cli_options; option->name; option++) {
        const struct option_spec *spec = option->key ? run_spec(option->key) : NULL;

        if (option->letter && option->argument)
            printf("    -%c|--%s) ", option->letter, option->name);
        else if (option->argument)
            printf("    --%s) ", option->name);
        else
            continue;
        if (spec && spec->type == OPTION_ENUM) {
            g_autofree char *values = g_strjoinv(" ", (char **)spec->choices);

            printf("COMPREPLY=($(compgen -W '%s' -- \"$word\")); return ;;\n", values);
        } else if (option->type || !strcmp(option->name, "device")) {
            const struct device_type *type = option->type ? device_type_find(option->type) : NULL;

            printf("compopt -o nospace; COMPREPLY=($(compgen -W '");
            for (const struct option_spec *key = type ? device_type_options(type) : NULL;
                 key && key->key; key++)
                printf("%s= ", key->key);
            for (unsigned i = 0; !type && device_types[i]; i++)
                printf("%s, ", device_types[i]->name);
            printf("' -- \"${word##*,}\")); return ;;\n");
        } else if (!strcmp(option->name, "display")) {
            complete_display();
        } else {
            printf("COMPREPLY=($(compgen -f -- \"$word\")); return ;;\n");
        }
    }
    printf("    esac\n");
}

int command_completion(char **argv)
{
    printf("# bash completion for lodge %s\n_lodge()\n{\n", LODGE_VERSION);
    printf("    local word=\"${COMP_WORDS[COMP_CWORD]}\"\n    COMPREPLY=()\n");
    printf("    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        COMPREPLY=($(compgen -W '");
    for (const struct subcommand *command = subcommands; command->name; command++)
        if (!command->hidden)
            printf("%s ", command->name);
    printf("' -- \"$word\")); return\n    fi\n    case \"${COMP_WORDS[1]}\" in\n");
    printf("    devices) COMPREPLY=($(compgen -W '");
    for (unsigned i = 0; device_types[i]; i++)
        printf("%s ", device_types[i]->name);
    printf("--trace' -- \"$word\")); return ;;\n");
    printf("    ctl) if [ \"$COMP_CWORD\" -eq 2 ]; then COMPREPLY=($(compgen -f -- \"$word\"))\n");
    printf("         else COMPREPLY=($(compgen -W '");
    for (const struct control_command *command = control_commands; command->name; command++)
        printf("%s ", command->name);
    printf("events' -- \"$word\")); fi; return ;;\n    run) ;;\n    *) return ;;\n    esac\n");
    complete_devices();
    printf("    COMPREPLY=($(compgen -W '");
    for (const struct cli_option *option = cli_options; option->name; option++)
        printf("--%s ", option->name);
    printf("' -- \"$word\"))\n}\ncomplete -F _lodge lodge\n");
    return 0;
}
