import type { Batch, BatchStatus } from '../queue/batches/batch.ts'
import type { BatchView } from '../queue/batches/batches.ts'
import { nameBand } from '../queue/task.ts'

/** A batch as OpenAI's clients read it. `priority` is this server's own. */
export function describeBatch({ batch, counts }: BatchView) {
  const at = (status: BatchStatus) => toSeconds(batch.atMs[status])
  const isOver = ['completed', 'expired', 'cancelled'].includes(batch.status)
  return {
    id: batch.id,
    object: 'batch',
    endpoint: batch.endpoint,
    errors: batch.errors.length === 0 ? null : { object: 'list', data: batch.errors },
    input_file_id: batch.inputFileId,
    completion_window: batch.completionWindow,
    status: batch.status,
    output_file_id: isOver ? fileId(batch.results?.output) : null,
    error_file_id: isOver ? fileId(batch.results?.errors) : null,
    created_at: at('validating'),
    in_progress_at: at('in_progress'),
    expires_at: toSeconds(batch.expiresAtMs),
    finalizing_at: at('finalizing'),
    completed_at: at('completed'),
    failed_at: at('failed'),
    expired_at: at('expired'),
    cancelling_at: at('cancelling'),
    cancelled_at: at('cancelled'),
    request_counts: counts,
    usage: describeUsage(batch.usage),
    metadata: batch.metadata,
    priority: nameBand(batch.band),
  }
}

const toSeconds = (ms: number | undefined): number | null => (ms === undefined ? null : Math.floor(ms / 1000))

const fileId = (file: { id: string; lines: number } | undefined): string | null =>
  file && file.lines > 0 ? file.id : null

const describeUsage = (usage: Batch['usage']) =>
  usage && {
    input_tokens: usage.promptTokens,
    input_tokens_details: { cached_tokens: usage.cachedTokens },
    output_tokens: usage.completionTokens,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: usage.promptTokens + usage.completionTokens,
  }
