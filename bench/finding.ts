import { printTable } from './table.ts'

/** One figure beside what it is compared with and what is asked of it. */
export type Finding = { what: string; figure: string; reference: string; target: string; met: boolean }

export function printFindings(findings: readonly Finding[]): void {
  printTable(
    ['figure', 'measured', 'against', 'target', ''],
    findings.map(({ what, figure, reference, target, met }) => [
      what,
      figure,
      reference,
      target,
      met ? 'met' : 'MISSED',
    ]),
  )
}
