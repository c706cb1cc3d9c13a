/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Made-up kernel images, byte by byte, for the tests of the loaders. */
#ifndef TESTS_UNIT_IMAGES_H
#define TESTS_UNIT_IMAGES_H

#include <asm/bootparam.h>
#include <elf.h>
#include <glib.h>
#include <string.h>

#define IMAGE_SETUP_SIZE (2 * 512) /* setup_sects 1 */
#define IMAGE_CODE_SIZE  4096
#define IMAGE_PREFERRED  0x1000000u
#define IMAGE_INIT_SIZE  0x800000u
#define IMAGE_VERSION    "6.1.0-made-up"
#define IMAGE_VERSION_AT 0x300

static inline struct setup_header *image_header(GByteArray *image)
{
    return (struct setup_header *)(image->data + 0x1f1);
}

static inline void image_pad(GByteArray *image, guint size)
{
    guint before = image->len;

    g_byte_array_set_size(image, MAX(before, size));
    memset(image->data + before, 0, image->len - before);
}

/* A bzImage with @payload behind IMAGE_CODE_SIZE bytes of "code" (each byte its offset's low bits). */
static inline GByteArray *image_bzimage(const void *payload, guint payload_size)
{
    GByteArray *image = g_byte_array_new();

    image_pad(image, IMAGE_SETUP_SIZE);
    image->data[0x1fe] = 0x55;
    image->data[0x1ff] = 0xaa;
    image->data[0x200] = 0xeb;
    image->data[0x201] = 0x1f1 + sizeof(struct setup_header) - 0x202;
    strcpy((char *)image->data + IMAGE_VERSION_AT, IMAGE_VERSION " (nobody@nowhere) #1");
    for (guint i = 0; i < IMAGE_CODE_SIZE; i++) {
        guint8 byte = i ^ i >> 8;
        g_byte_array_append(image, &byte, 1);
    }
    g_byte_array_append(image, payload, payload_size);
    image_pad(image, (image->len + 15) / 16 * 16);
    struct setup_header *header = image_header(image);
    header->setup_sects = 1;
    header->syssize = (image->len - IMAGE_SETUP_SIZE) / 16;
    header->header = 0x53726448;
    header->version = 0x020f;
    header->kernel_version = IMAGE_VERSION_AT - 0x200;
    header->loadflags = LOADED_HIGH;
    header->initrd_addr_max = 0x7fffffff;
    header->kernel_alignment = 0x200000;
    header->relocatable_kernel = 1;
    header->min_alignment = 21;
    header->xloadflags = XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G;
    header->cmdline_size = 2047;
    header->payload_offset = IMAGE_CODE_SIZE;
    header->payload_length = payload_size;
    header->pref_address = IMAGE_PREFERRED;
    header->init_size = IMAGE_INIT_SIZE;
    return image;
}

#define IMAGE_ELF_TEXT      0x1000u /* file offset and size of the first segment, with the note */
#define IMAGE_ELF_TEXT_SIZE 0x3000u
#define IMAGE_ELF_DATA      0x5000u
#define IMAGE_ELF_DATA_SIZE 0x1234u
#define IMAGE_ELF_DATA_MEM  0x9000u
#define IMAGE_ELF_TEXT_GPA  0x1000000u
#define IMAGE_ELF_DATA_GPA  0x1400000u
#define IMAGE_ELF_NOTE      0x2000u
#define IMAGE_ELF_ENTRY     (IMAGE_ELF_TEXT_GPA + 0x850)
#define IMAGE_ELF_SIZE      (IMAGE_ELF_DATA + IMAGE_ELF_DATA_SIZE)

static inline Elf64_Ehdr *image_ehdr(GByteArray *image)
{
    return (Elf64_Ehdr *)image->data;
}

static inline Elf64_Phdr *image_phdr(GByteArray *image, unsigned index)
{
    return (Elf64_Phdr *)(image->data + sizeof(Elf64_Ehdr)) + index;
}

static inline guint image_note(GByteArray *image, guint at, const char *owner, guint type,
                               const void *data, guint size)
{
    Elf64_Nhdr note = {.n_namesz = strlen(owner) + 1, .n_descsz = size, .n_type = type};

    memcpy(image->data + at, &note, sizeof(note));
    memcpy(image->data + at + sizeof(note), owner, note.n_namesz);
    at += sizeof(note) + (note.n_namesz + 3) / 4 * 4;
    memcpy(image->data + at, data, size);
    return at + (size + 3) / 4 * 4;
}

/* An ELF kernel: two segments to load, one of notes inside the first. */
static inline GByteArray *image_elf(void)
{
    GByteArray *image = g_byte_array_new();
    guint32 entry = GUINT32_TO_LE(IMAGE_ELF_ENTRY);
    guint32 other = 7;

    for (guint i = 0; i < IMAGE_ELF_SIZE; i++) {
        guint8 byte = i * 7 ^ i >> 8;
        g_byte_array_append(image, &byte, 1);
    }
    memset(image->data, 0, IMAGE_ELF_TEXT);
    Elf64_Ehdr *ehdr = image_ehdr(image);
    memcpy(ehdr->e_ident, ELFMAG, SELFMAG);
    ehdr->e_ident[EI_CLASS] = ELFCLASS64;
    ehdr->e_ident[EI_DATA] = ELFDATA2LSB;
    ehdr->e_ident[EI_VERSION] = EV_CURRENT;
    ehdr->e_type = ET_EXEC;
    ehdr->e_machine = EM_X86_64;
    ehdr->e_version = EV_CURRENT;
    ehdr->e_phoff = sizeof(*ehdr);
    ehdr->e_ehsize = sizeof(*ehdr);
    ehdr->e_phentsize = sizeof(Elf64_Phdr);
    ehdr->e_phnum = 3;
    guint end = image_note(image, IMAGE_ELF_NOTE, "Xen", 5, &other, 4);
    end = image_note(image, end, "Linux", 0x100, IMAGE_VERSION, sizeof(IMAGE_VERSION));
    end = image_note(image, end, "Xen", 18, &entry, 4);
    *image_phdr(image, 0) = (Elf64_Phdr){
        .p_type = PT_LOAD,
        .p_offset = IMAGE_ELF_TEXT,
        .p_filesz = IMAGE_ELF_TEXT_SIZE,
        .p_memsz = IMAGE_ELF_TEXT_SIZE,
        .p_paddr = IMAGE_ELF_TEXT_GPA,
    };
    *image_phdr(image, 1) = (Elf64_Phdr){
        .p_type = PT_LOAD,
        .p_offset = IMAGE_ELF_DATA,
        .p_filesz = IMAGE_ELF_DATA_SIZE,
        .p_memsz = IMAGE_ELF_DATA_MEM,
        .p_paddr = IMAGE_ELF_DATA_GPA,
    };
    *image_phdr(image, 2) = (Elf64_Phdr){
        .p_type = PT_NOTE,
        .p_offset = IMAGE_ELF_NOTE,
        .p_filesz = end - IMAGE_ELF_NOTE,
        .p_memsz = end - IMAGE_ELF_NOTE,
        .p_align = 4,
    };
    return image;
}

#endif
