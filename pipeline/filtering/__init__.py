"""What filters judge: rules over wording, personal data, signs, languages and labels, arrays or texts in."""
