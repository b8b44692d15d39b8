# The beginning of a kernel that is not compressed (scripts/guest_kernel.py). A boot loader loads all of this to 1 MiB
# and calls it as Linux's 32-bit boot protocol says (boot_params in ESI). It moves the kernel to where it is to run and
# calls it as the 64-bit one says (boot_params in RSI).
#
# Given: KERNEL, the address where it runs; SIZE, the bytes that it takes there; the file kernel.bin, without the zeros
# that it ends with.

        .code32
start:  lgdt    gdt_register
        mov     $level4, %eax
        mov     %eax, %cr3
        mov     %cr4, %eax
        bts     $5, %eax                # PAE
        mov     %eax, %cr4
        mov     $0xc0000080, %ecx       # EFER
        rdmsr
        bts     $8, %eax                # long mode
        wrmsr
        mov     %cr0, %eax
        bts     $31, %eax               # paging
        mov     %eax, %cr0
        ljmp    $0x10, $long

        .code64
long:   mov     $0x18, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     %esi, %ebx
        std                             # from its end, as the two places overlap
        mov     $kernel_end - 8, %esi
        mov     $KERNEL + kernel_end - kernel - 8, %edi
        mov     $(kernel_end - kernel) / 8, %ecx
        rep movsq
        cld
        mov     $KERNEL + kernel_end - kernel, %edi
        mov     $(SIZE - (kernel_end - kernel)) / 8, %ecx
        xor     %eax, %eax
        rep stosq
        mov     %ebx, %esi
        mov     $KERNEL, %eax
        jmp     *%rax

        .balign 8
gdt:    .quad   0, 0, 0x00af9a000000ffff, 0x00cf92000000ffff    # as Linux has them: none, none, code, data
gdt_register:
        .word   gdt_register - gdt - 1
        .long   gdt

        .balign 4096                    # the first 4 GiB, each address as it is, in pages of 2 MiB
level4: .quad   level3 + 3
        .balign 4096
level3: .set    n, 0
        .rept   4
        .quad   level2 + n * 4096 + 3
        .set    n, n + 1
        .endr
        .balign 4096
level2: .set    n, 0
        .rept   4 * 512
        .quad   n * 0x200000 + 0x83
        .set    n, n + 1
        .endr

kernel: .incbin "kernel.bin"
        .balign 8
kernel_end:
