//! Reads the text of a filter, in one pass and with bounded depth.
//!
//! ```text
//! expression = part { [ "AND" ] part } | part { "OR" part }
//! part       = ( "NOT" | "-" ) part | "(" expression ")" | column operator value
//! column     = name | "labels." ( key | quoted )
//! operator   = "=" | "!=" | "<" | "<=" | ">" | ">=" | ":"
//! value      = word | quoted           `:*` means present, `:"*"` means contains a star
//! ```

use super::column::Kind;
use super::{Column, Expression, Operator, Term, Test};

/// The longest filter that is read.
pub const MAX_BYTES: usize = 4096;
/// How deep parentheses and negations may nest.
pub const MAX_DEPTH: usize = 32;

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at character {position}")]
pub struct FilterError {
    /// The character at which reading failed, from 1.
    pub position: usize,
    /// What is wrong there and what would fit; at most some hundred characters.
    pub problem: String,
}

type Result<T> = std::result::Result<T, FilterError>;

pub(super) fn filter(text: &str) -> Result<Option<Expression>> {
    let mut reader = Reader { text, at: 0 };
    if text.len() > MAX_BYTES {
        return Err(reader.error(format!("a filter may have {MAX_BYTES} bytes, this one has {}", text.len())));
    }
    reader.skip_space();
    if reader.rest().is_empty() {
        return Ok(None);
    }
    let expression = reader.expression(MAX_DEPTH)?;
    if !reader.rest().is_empty() {
        return Err(reader.error("a parenthesis is closed that was not opened"));
    }
    Ok(Some(expression))
}

/// What may stand in a label key or word without quotes.
pub(super) fn is_key_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || "_-./".contains(character)
}

fn is_value_character(character: char) -> bool {
    !character.is_whitespace() && !"()\"'=<>!".contains(character)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

/// A value as written: in quotes, `*` is just a star.
struct Written {
    text: String,
    quoted: bool,
}

impl<'a> Reader<'a> {
    /// Reads up to the end of the text or the parenthesis that closes this expression.
    fn expression(&mut self, depth: usize) -> Result<Expression> {
        let mut parts = vec![self.part(depth)?];
        let mut disjunction = None;
        while !self.rest().is_empty() && !self.rest().starts_with(')') {
            let start = self.at;
            let is_or = self.take_keyword("OR");
            if !is_or {
                self.take_keyword("AND"); // or nothing, which means the same
            }
            if *disjunction.get_or_insert(is_or) != is_or {
                self.at = start;
                return Err(self.error("AND and OR are mixed; put parentheses around what belongs together"));
            }
            parts.push(self.part(depth)?);
        }
        Ok(if disjunction == Some(true) { Expression::any(parts) } else { Expression::all(parts) })
    }

    fn part(&mut self, depth: usize) -> Result<Expression> {
        if depth == 0 {
            return Err(self.error(format!("a filter may nest {MAX_DEPTH} deep, this one goes deeper")));
        }
        if self.take_keyword("NOT") || self.take("-") {
            return Ok(Expression::Not(Box::new(self.part(depth - 1)?)));
        }
        if !self.take("(") {
            return self.term().map(Expression::Term);
        }
        let inner = self.expression(depth - 1)?;
        if !self.take(")") {
            return Err(self.error("a parenthesis is not closed"));
        }
        Ok(inner)
    }

    fn term(&mut self) -> Result<Term> {
        let column = self.column()?;
        let operator_at = self.at;
        let operator = self.operator(&column)?;
        let value_at = self.at;
        let written = self.value(&column)?;
        self.skip_space();

        let kind = column.kind();
        let error_at = |at, problem| Err(Reader { text: self.text, at }.error(problem));
        let test = match operator {
            None if written.text == "*" && !written.quoted => Test::Present,
            None if kind == Kind::Text => Test::Contains(written.text),
            None => return error_at(value_at, format!("`{column}:` takes only `*`; to compare, use `{column} =`")),
            Some(operator) if operator.is_equality() || kind.is_ordered() => match kind.read(&written.text) {
                Some(value) => Test::Compare(operator, value),
                None => {
                    let (text, column, fits) = (cut(&written.text), brief(&column), kind.description());
                    return error_at(value_at, format!("`{text}` does not fit `{column}`, which takes {fits}"));
                }
            },
            Some(_) => return error_at(operator_at, format!("`{column}` has no order; use `=` or `!=`")),
        };
        Ok(Term { column, test })
    }

    fn column(&mut self) -> Result<Column> {
        let start = self.at;
        let name = self.take_while(|character| character.is_ascii_alphanumeric() || character == '_');
        let column = if name == "labels" && self.rest().starts_with('.') {
            self.at += 1;
            Some(Column::Label(self.key()?))
        } else {
            Column::NAMED.into_iter().find(|column| column.to_string() == name)
        };
        if let Some(column) = column {
            self.skip_space();
            return Ok(column);
        }
        self.at = start;
        let names = Column::NAMED.map(|column| column.to_string()).join(", ");
        Err(if name.is_empty() {
            self.error(format!("expected a column: one of {names}, labels.KEY"))
        } else {
            self.error(format!("unknown column `{}`; columns are {names}, labels.KEY", cut(name)))
        })
    }

    fn key(&mut self) -> Result<String> {
        if self.rest().starts_with(['"', '\'']) {
            return self.quoted();
        }
        match self.take_while(is_key_character) {
            "" => Err(self.error("expected the key of a label behind `labels.`")),
            key => Ok(key.to_owned()),
        }
    }

    /// A comparison, or `None` for `:`.
    fn operator(&mut self, column: &Column) -> Result<Option<Operator>> {
        use Operator::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        if self.take(":") {
            return Ok(None);
        }
        [NotEqual, LessOrEqual, GreaterOrEqual, Equal, Less, Greater] // the longer ones before their beginnings
            .into_iter()
            .find(|operator| self.take(operator.symbol()))
            .map(Some)
            .ok_or_else(|| self.error(format!("expected =, !=, <, <=, >, >= or : behind `{}`", brief(column))))
    }

    fn value(&mut self, column: &Column) -> Result<Written> {
        if self.rest().starts_with(['"', '\'']) {
            return Ok(Written { text: self.quoted()?, quoted: true });
        }
        match self.take_while(is_value_character) {
            "" => Err(self.error(format!("`{}` needs a value: {}", brief(column), column.kind().description()))),
            word => Ok(Written { text: word.to_owned(), quoted: false }),
        }
    }

    /// A text between quotes, with the escapes `\\ \" \' \n \r \t`.
    fn quoted(&mut self) -> Result<String> {
        let start = self.at;
        let mut characters = self.rest().char_indices();
        let quote = characters.next().map(|(_, quote)| quote);
        let mut text = String::new();
        while let Some((index, character)) = characters.next() {
            if Some(character) == quote {
                self.at = start + index + 1;
                return Ok(text);
            }
            if character != '\\' {
                text.push(character);
                continue;
            }
            text.push(match characters.next() {
                Some((_, same @ ('\\' | '"' | '\''))) => same,
                Some((_, 'n')) => '\n',
                Some((_, 'r')) => '\r',
                Some((_, 't')) => '\t',
                Some(_) | None => {
                    self.at = start + index;
                    return Err(self.error(r#"unknown escape; known are \\ \" \' \n \r \t"#));
                }
            });
        }
        Err(self.error("a quoted text does not end"))
    }

    /// Takes the word if it stands here, as a whole word.
    fn take_keyword(&mut self, word: &str) -> bool {
        let ends = |rest: &str| !rest.starts_with(|character: char| is_key_character(character) && character != '-');
        self.rest().strip_prefix(word).is_some_and(ends) && self.take(word)
    }

    /// Takes the symbol, and the space behind it, if it stands here.
    fn take(&mut self, symbol: &str) -> bool {
        let found = self.rest().starts_with(symbol);
        if found {
            self.at += symbol.len();
            self.skip_space();
        }
        found
    }

    fn take_while(&mut self, fits: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let taken = &rest[..rest.find(|character| !fits(character)).unwrap_or(rest.len())];
        self.at += taken.len();
        taken
    }

    fn skip_space(&mut self) {
        self.take_while(char::is_whitespace);
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn error(&self, problem: impl Into<String>) -> FilterError {
        FilterError { position: self.text[..self.at].chars().count() + 1, problem: problem.into() }
    }
}

/// A column's name, cut so that messages stay short.
fn brief(column: &Column) -> String {
    cut(&column.to_string())
}

fn cut(text: &str) -> String {
    const LONGEST: usize = 40;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
