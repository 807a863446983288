/* SPDX-License-Identifier: MIT */
/*
 * The source annotation language, second vintage (_In_, _Out_writes_, _When_ ...): documentation for the
 * reader, nothing for the compiler, so every name expands to nothing. The names of the first vintage (__in,
 * __out_bcount ...) are in sal1.h.
 *
 * Only annotations live here; those about IRQL and driver roles are in driverspecs.h.
 */
#ifndef PINION_WDK_SAL_H
#define PINION_WDK_SAL_H

/* Parameters */
#define _In_
#define _In_opt_
#define _In_z_
#define _In_opt_z_
#define _Out_
#define _Out_opt_
#define _Inout_
#define _Inout_opt_
#define _Inout_z_
#define _Inout_opt_z_
#define _Reserved_
#define _Const_
#define _Outptr_
#define _Outptr_opt_
#define _Outptr_result_maybenull_
#define _Outptr_opt_result_maybenull_
#define _Outptr_result_z_
#define _Outptr_opt_result_z_
#define _Outptr_result_maybenull_z_
#define _Outptr_opt_result_maybenull_z_
#define _Outptr_result_nullonfailure_
#define _Outptr_opt_result_nullonfailure_
#define _COM_Outptr_
#define _COM_Outptr_opt_
#define _COM_Outptr_result_maybenull_
#define _COM_Outptr_opt_result_maybenull_
#define _Outref_
#define _Outref_result_maybenull_
#define _Outref_result_nullonfailure_
#define _Deref_pre_z_
#define _Deref_prepost_z_
#define _Deref_out_
#define _Deref_out_opt_
#define _Deref_opt_out_
#define _Deref_opt_out_opt_
#define _Deref_out_z_

/* Results and state */
#define _Ret_z_
#define _Ret_maybenull_
#define _Ret_maybenull_z_
#define _Ret_notnull_
#define _Ret_null_
#define _Ret_valid_
#define _Check_return_
#define _Must_inspect_result_
#define _Pre_notnull_
#define _Pre_maybenull_
#define _Pre_null_
#define _Pre_valid_
#define _Pre_invalid_
#define _Pre_z_
#define _Pre_opt_valid_
#define _Post_valid_
#define _Post_invalid_
#define _Post_ptr_invalid_
#define _Post_notnull_
#define _Post_maybenull_
#define _Post_null_
#define _Post_z_
#define _Notnull_
#define _Maybenull_
#define _Null_
#define _Valid_
#define _Notvalid_
#define _Pre_
#define _Post_
#define _Prepost_
#define _Points_to_data_
#define _Literal_
#define _Notliteral_
#define _Maybe_raises_SEH_exception_
#define _Raises_SEH_exception_
#define _Field_z_
#define _NullNull_terminated_
#define _Null_terminated_
#define _Printf_format_string_
#define _Scanf_format_string_
#define _Scanf_s_format_string_
#define _Analysis_noreturn_
#define _Use_decl_annotations_
#define _Pre_defensive_
#define _Result_nullonfailure_
#define _Result_zeroonfailure_
#define _Requires_no_locks_held_
#define _Frees_ptr_
#define _Frees_ptr_opt_
#define _Enum_is_bitflag_
#define _Strict_type_match_
#define _Interlocked_operand_
#define _Interlocked_
#define _No_competing_thread_
#define _Benign_race_begin_
#define _Benign_race_end_
#define _Function_ignore_lock_checking_

/* Sizes */
#define _In_reads_(...)
#define _In_reads_opt_(...)
#define _In_reads_bytes_(...)
#define _In_reads_bytes_opt_(...)
#define _In_reads_z_(...)
#define _In_reads_opt_z_(...)
#define _In_reads_or_z_(...)
#define _In_reads_or_z_opt_(...)
#define _Out_writes_(...)
#define _Out_writes_opt_(...)
#define _Out_writes_bytes_(...)
#define _Out_writes_bytes_opt_(...)
#define _Out_writes_z_(...)
#define _Out_writes_opt_z_(...)
#define _Out_writes_all_(...)
#define _Out_writes_all_opt_(...)
#define _Out_writes_bytes_all_(...)
#define _Out_writes_bytes_all_opt_(...)
#define _Inout_updates_(...)
#define _Inout_updates_opt_(...)
#define _Inout_updates_z_(...)
#define _Inout_updates_opt_z_(...)
#define _Inout_updates_bytes_(...)
#define _Inout_updates_bytes_opt_(...)
#define _Inout_updates_all_(...)
#define _Inout_updates_all_opt_(...)
#define _Inout_updates_bytes_all_(...)
#define _Inout_updates_bytes_all_opt_(...)
#define _Outptr_result_buffer_(...)
#define _Outptr_opt_result_buffer_(...)
#define _Outptr_result_buffer_maybenull_(...)
#define _Outptr_opt_result_buffer_maybenull_(...)
#define _Outptr_result_bytebuffer_(...)
#define _Outptr_opt_result_bytebuffer_(...)
#define _Outptr_result_bytebuffer_maybenull_(...)
#define _Outptr_opt_result_bytebuffer_maybenull_(...)
#define _Ret_writes_(...)
#define _Ret_writes_z_(...)
#define _Ret_writes_bytes_(...)
#define _Ret_writes_maybenull_(...)
#define _Ret_writes_bytes_maybenull_(...)
#define _Field_size_(...)
#define _Field_size_opt_(...)
#define _Field_size_part_(...)
#define _Field_size_part_opt_(...)
#define _Field_size_full_(...)
#define _Field_size_full_opt_(...)
#define _Field_size_bytes_(...)
#define _Field_size_bytes_opt_(...)
#define _Field_size_bytes_part_(...)
#define _Field_size_bytes_part_opt_(...)
#define _Field_size_bytes_full_(...)
#define _Field_size_bytes_full_opt_(...)
#define _Struct_size_bytes_(...)
#define _Pre_readable_size_(...)
#define _Pre_readable_byte_size_(...)
#define _Pre_writable_size_(...)
#define _Pre_writable_byte_size_(...)
#define _Post_readable_size_(...)
#define _Post_readable_byte_size_(...)
#define _Post_writable_size_(...)
#define _Post_writable_byte_size_(...)
#define _Readable_bytes_(...)
#define _Readable_elements_(...)
#define _Writable_bytes_(...)
#define _Writable_elements_(...)

/* Two sizes */
#define _Out_writes_to_(...)
#define _In_reads_to_ptr_(...)
#define _In_reads_to_ptr_opt_(...)
#define _In_reads_to_ptr_z_(...)
#define _Out_writes_to_opt_(...)
#define _Out_writes_bytes_to_(...)
#define _Out_writes_bytes_to_opt_(...)
#define _Inout_updates_to_(...)
#define _Inout_updates_to_opt_(...)
#define _Inout_updates_bytes_to_(...)
#define _Inout_updates_bytes_to_opt_(...)
#define _Out_writes_to_ptr_(...)
#define _Outptr_result_buffer_to_(...)
#define _Outptr_opt_result_buffer_to_(...)
#define _Outptr_result_bytebuffer_to_(...)
#define _Outptr_opt_result_bytebuffer_to_(...)
#define _Ret_writes_to_(...)
#define _Ret_writes_bytes_to_(...)
#define _Ret_writes_to_maybenull_(...)
#define _Ret_writes_bytes_to_maybenull_(...)

/* Conditions */
#define _When_(...)
#define _Inexpressible_(...)
#define _Unchanged_(...)
#define _In_function_class_(...)
#define _Called_from_function_class_(...)
#define _Printf_format_string_params_(...)
#define _Scanf_format_string_params_(...)
#define _Scanf_s_format_string_params_(...)
#define _Success_(...)
#define _On_failure_(...)
#define _Always_(...)
#define _At_(...)
#define _At_buffer_(...)
#define _Group_(...)
#define _In_range_(...)
#define _Out_range_(...)
#define _Ret_range_(...)
#define _Deref_in_range_(...)
#define _Deref_out_range_(...)
#define _Deref_inout_range_(...)
#define _Deref_ret_range_(...)
#define _Field_range_(...)
#define _Pre_satisfies_(...)
#define _Post_satisfies_(...)
#define _Pre_equal_to_(...)
#define _Post_equal_to_(...)
#define _Return_type_success_(...)

/* Locks */
#define _Acquires_lock_(...)
#define _Acquires_exclusive_lock_(...)
#define _Acquires_shared_lock_(...)
#define _Acquires_nonreentrant_lock_(...)
#define _Releases_lock_(...)
#define _Releases_exclusive_lock_(...)
#define _Releases_shared_lock_(...)
#define _Releases_nonreentrant_lock_(...)
#define _Requires_lock_held_(...)
#define _Requires_exclusive_lock_held_(...)
#define _Requires_shared_lock_held_(...)
#define _Requires_lock_not_held_(...)
#define _Guarded_by_(...)
#define _Write_guarded_by_(...)
#define _Post_same_lock_(...)
#define _Has_lock_kind_(...)
#define _Has_lock_level_(...)
#define _Create_lock_level_(...)
#define _Lock_level_order_(...)
#define _Internal_lock_level_order_(...)
#define _Requires_lock_level_(...)

/* Statements of the analyser */
#define _Analysis_assume_(expr)         ((void)0)
#define __analysis_assume(expr)         ((void)0)
#define _Analysis_assume_nullterminated_(expr) ((void)0)
#define _Analysis_assume_lock_held_(l)
#define _Analysis_assume_lock_not_held_(l)
#define _Analysis_assume_lock_acquired_(l)
#define _Analysis_assume_lock_released_(l)
#define _Analysis_suppress_lock_checking_(l)
#define _Analysis_mode_(mode)
#define _SAL_VERSION 20

/* A Linux program that wants only the types keeps the old names for itself: glibc and libstdc++ use
   several of them. */
#ifndef PINION_HOST_CODE
#include "sal1.h"
#endif

#endif /* PINION_WDK_SAL_H */
