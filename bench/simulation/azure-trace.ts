import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import type { TracedRequest } from './trace.ts'

export const azureTracePath = join(
  import.meta.dirname,
  '../../../shared/traces/azure2023/AzureLLMInferenceTrace_code.csv.gz',
)

/**
 * 57 minutes of a code assistant, 8,819 requests, with pauses and bursts of four times the mean; null when the file is
 * not there. `speedup` says how much faster than recorded they come.
 * Source: Patel et al., Splitwise, ISCA 2024, https://github.com/Azure/AzurePublicDataset (CC-BY 4.0)
 */
export function readAzureTrace(speedup: number): readonly TracedRequest[] | null {
  if (!existsSync(azureTracePath)) return null
  const [, ...lines] = gunzipSync(readFileSync(azureTracePath)).toString('utf8').trim().split(/\r?\n/)
  let firstMs: number | null = null
  return lines.map((line) => {
    const [time, input, output] = line.split(',') as [string, string, string]
    const timeMs = Date.parse(`${time.slice(0, 23).replace(' ', 'T')}Z`)
    firstMs ??= timeMs
    return {
      atMs: (timeMs - firstMs) / speedup,
      inputTokens: Math.max(1, Number(input)),
      outputTokens: Math.max(1, Number(output)),
      blocks: [],
      sessionKey: '',
      streamed: true,
    }
  })
}
